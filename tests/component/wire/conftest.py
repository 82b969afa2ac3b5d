import uvloop


def pytest_asyncio_loop_factories(config, item):
    """The data path is tested on the event loop that it runs on."""
    return {"uvloop": uvloop.new_event_loop}
