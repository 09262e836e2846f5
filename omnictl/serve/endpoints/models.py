"""`/v1/models`: what is served, under each of its names."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from omnictl.serve.model import ServedModel
from omnictl.serve.service import service_of


async def _list(request: Request) -> JSONResponse:
    model = service_of(request).model
    return JSONResponse({"object": "list", "data": [_describe(model, name) for name in model.names]})


async def _retrieve(request: Request) -> JSONResponse:
    model, name = service_of(request).model, request.path_params["name"]
    model.check_name(name)
    return JSONResponse(_describe(model, name))


def _describe(model: ServedModel, name: str) -> dict[str, object]:
    """A model as OpenAI describes one, and what this one can do."""
    abilities = {
        "context": model.context,
        "input": ["text", *sorted(model.session.senses)],
        "output": ["text", *(["audio"] if model.voice else [])],
        "transcribes": model.recogniser is not None,
        "voices": list(model.voice.speakers) if model.voice else [],
        "temperature": model.temperature,
    }
    return {"id": name, "object": "model", "created": model.created, "owned_by": "omnictl", "omnictl": abilities}


ROUTES = (Route("/v1/models", _list), Route("/v1/models/{name:path}", _retrieve))
