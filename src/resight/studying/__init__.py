"""Why shortcuts help, measured: plain against residual nets by depth, and what single blocks of a Run do."""
