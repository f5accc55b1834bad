"""`python -m contrastok` is the command `contrastok`."""

from contrastok.cli import main

raise SystemExit(main())
