"""The one base of everything `serving` raises on purpose: each message is a sentence for the user, with the next step."""


class ServingError(Exception):
    """The model server cannot be planned, prepared, started or kept running."""
