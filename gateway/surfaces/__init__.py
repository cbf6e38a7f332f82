"""The doors callers use, one folder each: parser, encoder, errors and views change together."""
