"""The web page: its files, and the server that lends it bundles and takes its reports.

`page/` has two pages, in plain JavaScript: `index.html` shows the codes of a recording, and
`bench.html` measures bundles on the device that opens it. Modules: `assets` (the files that are
served), `inbox` (the folder of received reports), `server` (requests).
"""
