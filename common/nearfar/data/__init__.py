"""What every domain's data has in common: a content digest, arrays in files."""

from nearfar.data.arrays import read_arrays, write_arrays
from nearfar.data.digest import content_digest

__all__ = ["content_digest", "read_arrays", "write_arrays"]
