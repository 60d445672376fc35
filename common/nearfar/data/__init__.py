"""What every domain's data has in common: a content digest."""

from nearfar.data.digest import content_digest

__all__ = ["content_digest"]
