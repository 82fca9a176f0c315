"""``--by patches``: which tiles of a picture are looked at in full, decided from all of it at low resolution."""
