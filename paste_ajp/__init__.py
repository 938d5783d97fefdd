"""An AJP/1.3 server for WSGI applications."""
