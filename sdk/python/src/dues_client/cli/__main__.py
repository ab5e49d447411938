"""`python -m dues_client.cli`: the same as `dues`."""

import sys

from dues_client.cli import main

sys.exit(main())
