"""What a picture raises that would say nothing."""


class SaysNothing(Exception):
    """Why there is nothing to draw of this folder, in one line for a person."""
