"""The elements of a domain's XML, one device a file. Pure."""
