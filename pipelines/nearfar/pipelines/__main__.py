"""``python -m nearfar.pipelines`` is ``nearfar``; what ``torchrun -m`` starts."""

from nearfar.pipelines.cli import main

main()
