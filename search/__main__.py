"""`python -m search` is `eca-search`."""

import sys

from search.cli import main

sys.exit(main())
