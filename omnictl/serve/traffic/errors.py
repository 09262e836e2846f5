"""Errors as OpenAI's API has them: a status, and a body with `message`, `type`, `param` and `code`."""

import logging
import re
from collections.abc import Mapping

from pydantic import ValidationError
from starlette.responses import JSONResponse

from omnictl.errors import OmniError

logger = logging.getLogger(__name__)


class RequestError(OmniError):
    """A request that is refused.

    Args:
        message: what was found and what was expected.
        fix: what to do about it.
        where: the parameter.
        status: of HTTP.
        code: OpenAI's word for it, which programs read.
        headers: of the response.
    """

    kind = "request"
    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        where: str | None = None,
        status: int = 400,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, fix=fix, where=where)
        self.status, self.code, self.headers = status, code, headers


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(error: Exception) -> dict[str, object]:
    """An error as the body of a response, or an event of a stream, has it; of our own mistakes, only that there was one."""
    if not isinstance(error, OmniError):
        message = "the server made a mistake; its log says which"
        return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    status, code = _status(error), error.code if isinstance(error, RequestError) else error.kind
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": f"{error.message}; {error.fix}", "type": kind, "param": error.where, "code": code}}


def report_error(error: Exception) -> dict[str, object]:
    """The body of an error that ends with no response; our own mistakes go to the log."""
    if not isinstance(error, OmniError):
        logger.error("a mistake of the server's own", exc_info=error)
    return error_body(error)


def error_response(error: OmniError) -> JSONResponse:
    """An error as a response."""
    headers = error.headers if isinstance(error, RequestError) else None
    return JSONResponse(error_body(error), status_code=_status(error), headers=None if headers is None else dict(headers))


def _status(error: OmniError) -> int:
    """A named error of other layers was caused by what the request asks for."""
    return error.status if isinstance(error, RequestError) else 400


def invalid(error: ValidationError) -> RequestError:
    """The deepest problem of a body that is not what was expected, by its parameter."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    first = max(problems, key=lambda problem: len(problem["loc"]))  # of the kinds that a value may be, the one that fits best
    param = ".".join(str(part) for part in first["loc"] if re.fullmatch(r"\w+", str(part))) or None
    named = f"`{param}`: " if param else ""
    if first["type"] == "extra_forbidden":
        return RequestError(f"{named}this server has no such parameter", fix="leave it out", where=param, code="unknown_parameter")
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return RequestError(f"{named}{first['msg'].lower()}", fix="correct it", where=param, code=code)
