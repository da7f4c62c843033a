"""moto_server with log deliveries across accounts. Takes the arguments of moto_server."""

import sys
from pathlib import Path

from moto.server import main

sys.path.insert(0, str(Path(__file__).parent.parent / "operator"))
import cross_account

cross_account.patch()
main()
