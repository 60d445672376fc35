"""One file per command of ``nearfar``; each function is the command, its docstring the help."""
