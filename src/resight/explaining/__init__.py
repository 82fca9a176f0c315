"""Why an answer: class activation maps from the graph's own outputs, overlays, faithfulness. Needs no PyTorch."""

from resight.explaining.cam import check_head, class_activation, head_of, read_head, read_weights
from resight.explaining.colours import colours
from resight.explaining.explanation import ClassMap, Explanation, Explanations, Neighbour
from resight.explaining.faithfulness import Faithfulness, faithfulness, random_maps
from resight.explaining.filters import filters_picture, first_filters, maps_picture
from resight.explaining.overlay import beside, enlarge, overlay, place, png, shrunk, upsample
from resight.explaining.similar import Bank, Plane, make_bank, nearest, plane, reference_bank
from resight.explaining.tilemap import TileMap, explain_tiles
from resight.inference.heads import Head

__all__ = [
    "Bank",
    "ClassMap",
    "Explanation",
    "Explanations",
    "Faithfulness",
    "Head",
    "Neighbour",
    "Plane",
    "TileMap",
    "beside",
    "check_head",
    "class_activation",
    "colours",
    "enlarge",
    "explain_tiles",
    "faithfulness",
    "filters_picture",
    "first_filters",
    "head_of",
    "make_bank",
    "maps_picture",
    "nearest",
    "overlay",
    "place",
    "plane",
    "png",
    "random_maps",
    "read_head",
    "read_weights",
    "reference_bank",
    "shrunk",
    "upsample",
]
