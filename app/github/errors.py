"""What went wrong at GitHub, in the words of :mod:`app.ports`: each error says what the caller can do about it.

githubkit and httpx errors never leave this package. Their texts may hold a token (httpx names the header it cannot
send, pydantic the value it cannot read), so of an unexpected error only the type is told, and it is not chained.
Of an answer only its ``message`` is kept, cut short.
"""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
from githubkit.exception import GitHubException, RequestError, RequestFailed

from app.clock import utcnow
from app.github.quota import retry_after, server_time
from app.logs import HIDDEN, PATTERNS
from app.ports import GitHubRefused, GitHubUnavailable, NameTaken, NotFound, OutsideError, RunnerBusy

MAX_MESSAGE = 200
TOKEN_ROUTE = "/access_tokens"  # noqa: S105  # a route
BUSY = re.compile(
    r"running (a |the )?job|is (currently )?(busy|running)|job is (still )?running", re.IGNORECASE
)
CLAIMS = re.compile(
    r"'(Issued at|Expiration time)' claim", re.IGNORECASE
)  # of the App's JWT: a matter of time
CREDENTIALS = (
    "check that github_private_key_path holds a key that the App github_app_id still has at GitHub (or that "
    "github_token has not expired), and that this host's clock is right"
)
SET_CLOCK = (
    "set it with `sudo sntp -sS time.apple.com`, and switch on System Settings > General > Date & Time > "
    "Set time and date automatically"
)
RENAMED = (
    "the repository was renamed or moved: put its new name in the pool's repositories, and check that the App is "
    "installed there"
)
MENDS = (
    (
        re.compile("suspended", re.IGNORECASE),
        "the App is suspended there: unsuspend it on the page of its installation",
    ),
    (
        re.compile("repository.level.*runners are disabled", re.IGNORECASE),
        'the organization forbids runners at repositories: set scope = "organization" in the pool',
    ),
    (
        re.compile("integration not found", re.IGNORECASE),
        "github_app_id names no App there: take the App id (or client id) from the App's page",
    ),
    (
        re.compile("max(imum)? limit", re.IGNORECASE),
        "the runner group is full: remove its offline runners, or set another runner_group in the pool",
    ),
    (
        re.compile("IP allow list", re.IGNORECASE),
        "add this host's address to the organization's IP allow list",
    ),
    (
        re.compile(r"\blabels?\b", re.IGNORECASE),
        "correct the labels of the pool: at most 100, each at most 256 characters",
    ),
    (re.compile("SAML", re.IGNORECASE), "authorize the token for the organization's single sign-on"),
    (
        re.compile("api.version|supported version", re.IGNORECASE),
        "set github_api_version to one that this GitHub knows",
    ),
)


class Denied(Exception):
    """GitHub understood a question and said no, for good: a 4xx that is no rate limit. Never leaves the package."""

    def __init__(
        self,
        doing: str,
        *,
        status: int,
        message: str,
        permissions: str,
        at_token: bool,
        moved: bool,
        clock_ahead: timedelta,
    ) -> None:
        super().__init__(f"{status} when asked to {doing}")
        self.doing = doing
        self.status = status
        self.message = message
        self.permissions = permissions  # what the endpoint would have wanted
        self.at_token = at_token  # the question itself was not even asked: we got no token to ask it with
        self.moved = (
            moved  # GitHub sent us on, as it does for a repository that was renamed, and then said no
        )
        self.clock_ahead = clock_ahead  # this host's clock against GitHub's

    def told(self, mend: str) -> str:
        """Return one sentence: what GitHub refused, in which words, and the mend."""
        words = f": {self.message}" if self.message else ""
        return f"GitHub refused to {self.doing} ({self.status}{words}); {mend}"


def read(error: GitHubException, doing: str) -> tuple[OutsideError | Denied, Exception | None]:
    """Return what *error* means, and the cause that may be shown with it."""
    origin: Exception = error
    # What fails while a token is asked for comes wrapped, a refusal of GitHub's like everything else.
    while isinstance(origin, RequestError) and not isinstance(origin, RequestFailed):
        origin = origin.exc
    match origin:
        case OutsideError():
            return origin, None
        case RequestFailed():
            return _answered(origin, doing), origin
        case httpx.ConnectError():
            return GitHubUnavailable(_unreachable(origin, doing), maybe_done=False), origin
        case httpx.TimeoutException():
            msg = f"GitHub did not answer in time when asked to {doing}"
            return GitHubUnavailable(msg, maybe_done=_maybe_done(origin)), origin
        case httpx.TransportError():
            msg = f"The connection to GitHub broke ({type(origin).__name__}) when asked to {doing}"
            return GitHubUnavailable(msg, maybe_done=_maybe_done(origin)), None
        case _:
            kind = type(origin).__name__
            return GitHubUnavailable(f"No usable answer of GitHub ({kind}) when asked to {doing}"), None


def _answered(error: RequestFailed, doing: str) -> OutsideError | Denied:
    response = error.response.raw_response
    status = response.status_code
    if status >= 500 or status == 408:
        msg = f"GitHub answered {status} when asked to {doing}"
        return GitHubUnavailable(
            msg, retry_after=retry_after(response), maybe_done=_changes(response.request)
        )
    return Denied(
        doing,
        status=status,
        message=_message(response),
        permissions=_short(response.headers.get("x-accepted-github-permissions", "")),
        at_token=error.request.url.path.endswith(TOKEN_ROUTE),
        moved=bool(response.history),
        clock_ahead=utcnow() - server_time(response.headers),
    )


def _maybe_done(error: httpx.TransportError) -> bool:
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return False
    try:
        return _changes(error.request)
    except RuntimeError:  # it does not know its request
        return True


def _changes(request: httpx.Request) -> bool:
    """Whether *request* does anything at GitHub that matters to the caller; what asks for a token does not."""
    return request.method != "GET" and not request.url.path.endswith(TOKEN_ROUTE)


def _unreachable(error: httpx.ConnectError, doing: str) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"GitHub's certificate is not trusted here: set github_ca_path; could not {doing}"
    return f"GitHub cannot be reached ({_short(text) or type(error).__name__}): could not {doing}"


def _message(response: httpx.Response) -> str:
    """Return GitHub's own words, if the answer is its JSON and not some proxy's page."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return ""
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    detail = first.get("message") if isinstance(first, dict) else first
    return _short(f"{body['message']} - {detail}" if isinstance(detail, str) else body["message"])


def _short(text: str) -> str:
    return PATTERNS.sub(HIDDEN, " ".join(text.split()))[:MAX_MESSAGE]


def refusal(denied: Denied, permission: str = "") -> OutsideError:
    """Return the error of an ordinary question that GitHub denied; *permission* is what it needs at least."""
    mend = _known_mend(denied)
    if mend is not None:
        return GitHubRefused(denied.told(mend))
    if denied.at_token:
        return GitHubRefused(denied.told(_no_token(denied)))
    match denied.status:
        case 401:
            return GitHubRefused(denied.told(CREDENTIALS))
        case 403:
            return GitHubRefused(denied.told(_permission(denied.permissions or permission)))
        case 404:
            mend = "there is no such thing, or the App (or token) may not see it: check where it is installed"
            return NotFound(denied.told(RENAMED if denied.moved else f"{mend}, and its permissions"))
        case 400 | 410:
            return GitHubRefused(denied.told("check github_api_url and github_api_version"))
        case _:
            return GitHubRefused(denied.told("that is no passing trouble: check the pool's settings"))


def absence(denied: Denied, mend: str) -> OutsideError:
    """Return the error of a 404 that *mend* puts right, unless GitHub's words name another cause."""
    return GitHubRefused(denied.told(_known_mend(denied) or mend))


def _known_mend(denied: Denied) -> str | None:
    if denied.status == 401 and CLAIMS.search(denied.message):
        return _clock(denied.clock_ahead)
    return next((mend for pattern, mend in MENDS if pattern.search(denied.message)), None)


def _clock(ahead: timedelta) -> str:
    seconds = round(abs(ahead.total_seconds()))
    if seconds < 30:  # the JWT may have been made before it was set, or GitHub's time was not told
        return f"this Mac's clock is wrong, or was until now: {SET_CLOCK}"
    span = f"{seconds} seconds" if seconds < 120 else f"{round(seconds / 60)} minutes"
    direction = "ahead of" if ahead > timedelta() else "behind"
    return f"this Mac's clock is {span} {direction} GitHub's: {SET_CLOCK}"


def _no_token(denied: Denied) -> str:
    if denied.status == 401:
        return CREDENTIALS
    return "it gives no token for the App's installation: check that the App is installed there and not suspended"


def _permission(accepted: str) -> str:
    wanted = f"the permission {accepted.replace('=', ': ')}" if accepted else "the permissions for it"
    return f"grant the App (or token) {wanted}, and accept the change on the page of its installation"


def mint_refusal(denied: Denied, name: str, permission: str) -> OutsideError:
    """Return the error of a registration that GitHub denied; *permission* is what it needs."""
    if denied.at_token:
        return refusal(denied)
    if denied.status == 409:
        return NameTaken(f"GitHub has a runner named {name} already ({denied.message or 409})")
    if denied.status == 404:
        mend = f"check that the App is installed there, with the permission {permission.replace('=', ': ')}"
        return NotFound(denied.told(RENAMED if denied.moved else mend))
    return refusal(denied, permission)


def removal_refusal(denied: Denied, name: str) -> OutsideError:
    """Return the error of a removal that GitHub denied: above all that the runner has a job."""
    if denied.status == 422 and not denied.at_token and BUSY.search(denied.message):
        return RunnerBusy(f"{name} runs a job: GitHub keeps its registration ({denied.message})")
    return refusal(denied)
