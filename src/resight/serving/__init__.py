"""`resight serve`: a Run behind HTTP. Needs the extra ``serve``; never imports PyTorch."""
