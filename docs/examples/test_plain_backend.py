"""All the tests that the plug-in needs: the contract, with its name."""

from convengine.testing.contract import BackendContract


class TestPlainBackend(BackendContract):
    """The exam that convengine's own backends sit."""

    name = "plain"
