"""Third-party packages on a stack newer than they expect: RecBole, auto_LiRPA and tsai.

Each module repairs one package, imports it only when asked to, and says in its docstring what stays
changed afterwards. Nothing here runs during training; it serves comparisons and independent checks.
"""
