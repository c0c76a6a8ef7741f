"""The dashboard: pages over the same services as the API, in the same process.

`add_dashboard(app, keeper)` is all that the rest of the program needs. NiceGUI, which draws the
pages, is loaded with the first page that is asked for: a server nobody looks at pays nothing.
"""

from server.dashboard.mount import add_dashboard

__all__ = ["add_dashboard"]
