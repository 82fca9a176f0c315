"""torchvision's data sets by name: downloaded once, then read from their files like any other data set.

Only those are offered whose files need no unpickling and lie in a layout that Resight reads.
"""

from __future__ import annotations

from pathlib import Path

from resight.errors import DownloadError, UsageError
from resight.runs.storage import cache_directory, make_cache

PREFIX = "torchvision:"
# torchvision's class → the folder, inside the root that it is given, that holds the files.
FOLDERS = {
    "MNIST": "MNIST/raw",
    "FashionMNIST": "FashionMNIST/raw",
    "KMNIST": "KMNIST/raw",
    "EuroSAT": "eurosat/2750",
    "Imagenette": "imagenette2-160",
}


def data_path(data: str | Path) -> Path:
    """A path as it is, or ``torchvision:FashionMNIST`` as the folder that it was downloaded to.

    Raises UsageError for a name that is not offered, DownloadError when it cannot be fetched.
    """
    if not str(data).startswith(PREFIX):
        return Path(data)
    name = str(data).removeprefix(PREFIX)
    if name not in FOLDERS:
        raise UsageError(
            f"torchvision's data set '{name}' is not offered (unknown, or its files must be unpickled)",
            hint=f"offered: {', '.join(PREFIX + known for known in FOLDERS)}; others: download and unpack them by hand",
        )
    root = cache_directory("data")
    folder = root / FOLDERS[name]
    if not folder.is_dir() or not any(folder.iterdir()):
        _download(name, root)
    return folder


def _download(name: str, root: Path) -> None:
    from torchvision import datasets

    make_cache(root)
    options = {"size": "160px"} if name == "Imagenette" else {}
    try:
        getattr(datasets, name)(root, download=True, **options)
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"could not download torchvision's {name}: {error}",
            hint="check the connection, or download it by hand and give the folder",
        ) from error
