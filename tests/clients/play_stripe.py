"""Starts localstripe on a port of loopback. By itself it would listen on every interface and keep its state in a file that all share."""

import sys

from aiohttp import web
from localstripe import resources
from localstripe.server import app

resources.Store.dump_to_disk = lambda store: None
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
