"""Data sets in buckets, copied to where TFDS can read them."""

import os
import pathlib


def copy_of(
    name: str, data_dir: str, folder: str | os.PathLike, *, needed: bool
) -> str:
    """Copies a data set from a bucket, unless it was copied before.

    Files of array_record are read from local disks alone.

    Args:
      name: of a TFDS builder, with its config if it has several.
      data_dir: ``gs://BUCKET/PATH``.
      folder: copies lie in it, by bucket and path.
      needed: whether it has to be in the bucket.

    Returns:
      The local folder in the place of ``data_dir``.

    Raises:
      OSError: the bucket cannot be read or holds no such data set, or gcsfs is not
        installed.
    """
    try:
        import gcsfs
    except ImportError as error:
        raise OSError(
            f"buckets need {error.name}; install it with: pip install 'logitlab[gcs]'"
        ) from error
    storage = gcsfs.GCSFileSystem(use_listings_cache=False)
    remote = data_dir.removeprefix("gs://").strip("/")
    local = pathlib.Path(folder, "gs", remote)
    found = storage.find(f"{remote}/{name.partition(':')[0]}", detail=True)
    if needed and not found:
        raise FileNotFoundError(f"it holds no {name!r}")
    for path, about in found.items():
        file = local / path.removeprefix(f"{remote}/")
        if ".." in file.parts:
            raise OSError(f"{path} would lie outside of {local}")
        if file.exists() and file.stat().st_size == about["size"]:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        storage.get_file(path, os.fspath(draft))
        os.replace(draft, file)
    return os.fspath(local)
