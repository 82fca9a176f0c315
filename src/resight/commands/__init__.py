"""One module a verb. Heavy libraries are imported inside the functions, so that help and errors come at once."""
