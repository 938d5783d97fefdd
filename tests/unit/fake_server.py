"""A Server without sockets, for the tests of the doors."""

from typing import ClassVar


class FakeServer:
    """Notes what a door does with it; ``run`` answers at once."""

    #: The servers that were made, newest last; each test begins with none.
    made: ClassVar[list["FakeServer"]] = []

    def __init__(
        self,
        application,
        settings=None,
        *,
        load_application=None,
        source=None,
        environ=None,
    ):
        self.application = application
        self.settings = settings
        self.load_application = load_application
        self.source = source
        self.loads_application = True
        self.environ = environ
        self.told = []
        self.answer = False
        self.made.append(self)

    def bind(self):
        self.told.append("bind")

    def run(self):
        self.told.append("run")
        if self.application is None and self.load_application is not None:
            self.application = self.load_application()
        return self.answer

    def close(self):
        self.told.append("close")

    def shutdown(self):
        self.told.append("shutdown")
