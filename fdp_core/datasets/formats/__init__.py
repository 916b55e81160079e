"""One reader for each family of file formats; a manifest names the parser."""
