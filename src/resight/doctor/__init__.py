"""Checks on data sets, before an hour is spent on them. Needs no PyTorch."""

from resight.doctor.diagnosis import Diagnosis, diagnose
from resight.doctor.finding import Finding, Item
from resight.doctor.first_look import first_look
from resight.doctor.manifest import Manifest, clean, default_path
from resight.doctor.manifest import check_place as check_manifest
from resight.doctor.manifest import write as write_manifest

__all__ = [
    "Diagnosis",
    "Finding",
    "Item",
    "Manifest",
    "check_manifest",
    "clean",
    "default_path",
    "diagnose",
    "first_look",
    "write_manifest",
]
