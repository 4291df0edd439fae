"""What setting up has come to: the App that was asked for, the one there is, where it is installed, the first pool.

Pages and the command line call it, and it holds no page. What GitHub shows once (a new App's key and secret) is kept here
until it is on disk, so that a full disk costs nothing but another try.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from app.advice import advice
from app.configfile import ConfigError, Sources, load, sources
from app.github.apps import Apps, Installed, KnownApp, NewApp
from app.github.auth import AppCredentials
from app.poolsettings import PoolSettings
from app.ports import OutsideError
from app.settings import default_host_name
from app.setup.files import Files, Unwritable
from app.setup.manifest import WEBHOOK_PATH, Place, Wish, app_name
from app.setup.pools import PoolForm

NO_GROUP = (
    "Make one on GitHub that admits the pool's repositories alone, public ones too, and name it as runner_group; or make an App "
    "whose runners register at single repositories"
)
CONTRADICTING = ("github_token", "github_private_key")
SECRET_BYTES = 32


class WrongState(Exception):
    """Whoever came back from GitHub was not sent there by us."""


class Flow:
    """One run of the setup."""

    def __init__(
        self,
        environ: Mapping[str, str],
        cwd: Path,
        *,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        """Look at what there is. Raises ConfigError where a file cannot be read at all."""
        self._environ, self._cwd, self._transport = environ, cwd, transport
        self.files = Files(self._sources())
        self.wish: Wish | None = None
        self.warnings: list[str] = []
        self._state: str | None = None
        self._done_state: str | None = None
        self._unstored: NewApp | None = None
        self._exchanging = asyncio.Lock()

    def _sources(self) -> Sources:
        return sources(self._environ, self._cwd)

    def setting(self, name: str) -> str | None:
        """Return what a setting is set to now, if to anything."""
        try:
            value = self._sources().values().get(name)
        except ConfigError:  # it is told at the end, with everything else
            return None
        return str(value) if value not in {None, ""} else None

    def place(self) -> Place:
        """Return the GitHub that is configured."""
        api_url = self.setting("github_api_url")
        return Place.of_api(api_url) if api_url else Place()

    def apps(self, place: Place | None = None) -> Apps:
        """Return a client of the GitHub that is meant."""
        ca_path = self.setting("github_ca_path")
        meant = place or self.place()
        return Apps(
            api_url=meant.api_url,
            ca_path=Path(ca_path).expanduser() if ca_path else None,
            api_version=meant.api_version,
            transport=self._transport() if self._transport else None,
        )

    def credentials(self) -> AppCredentials | None:
        """Return the App's credentials, if there are any. Raises Unwritable where the key cannot be read."""
        app_id, path = self.setting("github_app_id"), self.setting("github_private_key_path")
        text = self.setting("github_private_key")
        if app_id is None or (text is None and path is None):
            return None
        try:
            key = (text or "").replace("\\n", "\n") or Path(path or "").expanduser().read_text(
                encoding="ascii"
            )
        except (OSError, UnicodeDecodeError) as error:
            msg = f"the App's key {path} cannot be read: put it back, or make a new App"
            raise Unwritable(msg) from error
        return AppCredentials(app_id=app_id, private_key=key)

    # -- the App -----------------------------------------------------------------------------------

    def ask(self, wish: Wish) -> str:
        """Note what is wanted, once all of it can be stored; return the state that proves the way back."""
        self.files.check()
        self.wish, self._unstored = wish, None
        self._state = secrets.token_urlsafe(SECRET_BYTES)
        return self._state

    def manifest(self, wish: Wish, redirect_url: str) -> dict[str, object]:
        """Return the manifest of the App that is wanted."""
        host_name = self.setting("host_name") or default_host_name()
        return wish.manifest(name=app_name(host_name, secrets.token_hex(2)), redirect_url=redirect_url)

    async def come_back(self, code: str, state: str) -> None:
        """Take the code that GitHub sent, exchange it and store the App; coming twice is once.

        Raises WrongState, OutsideError and Unwritable.
        """
        async with self._exchanging:
            if self._done_state is not None and _same(state, self._done_state):
                return
            if self.wish is None or self._state is None or not _same(state, self._state) or not code:
                raise WrongState
            if self._unstored is None:
                self.files.check()
                self._unstored = await self.apps(self.wish.place).convert(code)
            await self._store()

    async def store(self) -> None:
        """Store again what could not be stored. Raises Unwritable."""
        async with self._exchanging:
            if self._unstored is not None:
                await self._store()

    async def _store(self) -> None:
        app, wish = self._unstored, self.wish
        if app is None or wish is None:
            return
        secret = app.webhook_secret or secrets.token_hex(SECRET_BYTES)
        values = {
            "github_app_id": str(app.id),
            "github_private_key_path": str(self.files.write_key(app.pem, app.id)),
            "github_webhook_secret": secret,
            "github_api_url": wish.place.api_url,
            "github_api_version": wish.place.api_version,
        }
        values |= {"public_url": wish.public_url} if wish.public_url else {}
        self.files.write_settings(values, without=CONTRADICTING)
        self._unstored, self._done_state, self._state = None, self._state, None
        self.warnings = [
            f"{name} is set in the environment, which goes before .env: unset it there"
            for name in self.files.overridden(tuple(values))
        ]
        credentials = AppCredentials(app_id=str(app.id), private_key=app.pem)
        try:
            # GitHub's default may be a form, and it may have made no secret.
            new = None if app.webhook_secret else secret
            await self.apps(wish.place).point_hook(credentials, secret=new)
        except OutsideError as error:
            self.warnings.append(
                f"{error}. Set the webhook's content type to application/json on the App's page"
            )

    @property
    def has_unstored(self) -> bool:
        """Whether there is an App that GitHub handed over and that is not on disk yet."""
        return self._unstored is not None

    async def known(self) -> KnownApp | None:
        """Return the App that is configured, as GitHub knows it. Raises OutsideError and Unwritable."""
        credentials = self.credentials()
        return await self.apps().app(credentials) if credentials else None

    async def installations(self) -> tuple[Installed, ...]:
        """Return where it is installed now. Raises OutsideError and Unwritable."""
        credentials = self.credentials()
        return await self.apps().installations(credentials) if credentials else ()

    async def write_pool(self, form: PoolForm, *, group: bool) -> None:
        """Write the pool, and have its runners register where they may. Raises OutsideError and Unwritable.

        At an organization GitHub gives jobs of every repository that the runner group admits, so the pool gets a *group*
        of its own, unless somebody chose one.
        """
        app, credentials, keys = await self.known(), self.credentials(), form.keys()
        self.warnings = []
        if app is None or credentials is None or not app.at_organizations:
            self.files.write_pool(keys | ({"scope": "repository"} if app else {}))
            return
        name = f"cidermill-{form.name}"
        if group and self.files.pool(form.name).get("runner_group", name) == name:
            try:
                pool = PoolSettings.model_validate(keys).pool()
                if await self.apps().open_group(credentials, pool, name=name):
                    keys["runner_group"] = name
            except OutsideError as error:
                self.warnings.append(f"There is no runner group for the pool: {error}. {NO_GROUP}")
        self.files.write_pool(keys)

    # -- the webhook -------------------------------------------------------------------------------

    async def point_hook(self, public_url: str | None, *, rotate: bool) -> list[str]:
        """Send webhooks to another address, or sign them with a new secret, or both; return what was done.

        The former secret stays accepted, so that nothing is turned away meanwhile; where GitHub did not say that it took
        the new one, either may be its. Raises OutsideError and Unwritable.
        """
        credentials, done = self.credentials(), []
        if credentials is None:
            msg = "there is no App in the configuration yet: run `cidermill setup` first"
            raise Unwritable(msg)
        secret = secrets.token_hex(SECRET_BYTES) if rotate else None
        former = self.setting("github_webhook_secret")
        if secret is not None:
            self._accept(secret, former)
            done.append(f"A new webhook secret is in {self.files.env}; the former one is accepted too.")
        url = f"{public_url}{WEBHOOK_PATH}" if public_url else None
        try:
            await self.apps().point_hook(credentials, url=url, secret=secret)
        except OutsideError:
            if secret is not None and former is not None:
                self._accept(former, secret)
            raise
        if public_url is not None:
            self.files.write_settings({"public_url": public_url})
            done.append(f"GitHub sends webhooks to {url} from now on.")
        return done

    def _accept(self, secret: str, other: str | None) -> None:
        values = {"github_webhook_secret": secret}
        self.files.write_settings(values | ({"github_webhook_secret_previous": other} if other else {}))

    # -- the end -----------------------------------------------------------------------------------

    def check(self) -> tuple[list[str], list[str]]:
        """Read the configuration as the service would; return what is wrong and what should be thought about."""
        try:
            settings = load(self._environ, self._cwd)
        except ConfigError as error:
            return error.problems, self.warnings
        return [], [*self.warnings, *advice(settings)]


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
