"""Who is on the sandbox's GitHub, where the one App is installed, and which token may do what.

The App's JWT is really verified (RS256, issuer, times), and a token carries exactly the permissions it was
minted with (docs/contracts/github.md §3). A refusal is an ApiError with GitHub's status and words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.types import Options

from app.sandbox.github_ground import Ground
from app.sandbox.github_values import (
    Account,
    AccountKind,
    ApiError,
    Group,
    Installation,
    Repository,
    Token,
)

TOKEN_LIFE = timedelta(hours=1)
JWT_LIFE = 600  # seconds
CLOCK_SKEW = 60  # seconds
T = TypeVar("T")

LEVELS = {"read": 1, "write": 2, "admin": 3}
DEFAULT_PERMISSIONS = {
    "organization_self_hosted_runners": "write",
    "administration": "write",
    "actions": "read",
    "metadata": "read",
}


@lru_cache(maxsize=4)
def rsa_key(use: str) -> rsa.RSAPrivateKey:
    """Return this process's RSA key for *use*; making one is slow, so there is one for each."""
    del use
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(slots=True, kw_only=True)
class App:
    """The one GitHub App."""

    id: int
    client_id: str
    slug: str
    owner: Account
    key: rsa.RSAPrivateKey = field(repr=False)
    permissions: dict[str, str]
    events: tuple[str, ...] = ("workflow_job",)

    @property
    def pem(self) -> str:
        """Return the private key as GitHub hands it out, once."""
        form = PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


class Accounts:
    """Accounts, repositories, runner groups, the App, its installations and tokens."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.accounts: dict[str, Account] = {}  # by login in lower case
        self.repositories: dict[str, Repository] = {}  # by full name in lower case
        self.renamed: dict[str, Repository] = {}  # by former full name in lower case
        self.groups: dict[str, dict[int, Group]] = {}  # by organization in lower case
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.stateless_tokens = False  # mint the long ghs_APPID_JWT form
        self.app = App(
            id=ground.number("app"),
            client_id=f"Iv23li{ground.hex(14)}",
            slug="cidermill-sandbox",
            owner=self.add_user("sandbox-maintainer"),
            key=rsa_key("app"),
            permissions=dict(DEFAULT_PERMISSIONS),
        )
        ground.keep(self.app.pem)

    def add_user(self, login: str) -> Account:
        """Add a user."""
        return self._add(login, AccountKind.USER)

    def add_organization(self, login: str) -> Account:
        """Add an organization, with its default runner group, which public repositories may not use."""
        account = self._add(login, AccountKind.ORGANIZATION)
        self.groups[login.casefold()] = {1: Group(id=1, name="Default", default=True)}
        return account

    def _add(self, login: str, kind: AccountKind) -> Account:
        account = Account(id=self._ground.number("account"), login=login, kind=kind)
        self.accounts[login.casefold()] = account
        return account

    def add_repository(self, full_name: str, *, visibility: str = "private") -> Repository:
        """Add a repository; an owner nobody added before is an organization."""
        owner, _, name = full_name.partition("/")
        account = self.accounts.get(owner.casefold()) or self.add_organization(owner)
        repository = Repository(
            id=self._ground.number("repository"), name=name, owner=account, visibility=visibility
        )
        self.repositories[full_name.casefold()] = repository
        return repository

    def rename(self, repository: Repository, name: str) -> None:
        """Rename a repository; questions about its former name are sent on."""
        former = repository.full_name.casefold()
        del self.repositories[former]
        repository.name = name
        self.renamed[former] = self.repositories[repository.full_name.casefold()] = repository

    def remove(self, repository: Repository) -> None:
        """Delete a repository."""
        del self.repositories[repository.full_name.casefold()]

    def add_group(
        self,
        organization: str,
        name: str,
        *,
        visibility: str = "all",
        allows_public: bool = False,
        repositories: Iterable[Repository] = (),
    ) -> Group:
        """Add a runner group to an organization."""
        groups = self.groups[organization.casefold()]
        group = Group(
            id=max(groups) + 1,
            name=name,
            visibility=visibility,
            allows_public=allows_public,
            repositories={repository.id for repository in repositories},
        )
        groups[group.id] = group
        return group

    def install(
        self,
        login: str,
        *,
        repositories: Iterable[Repository] | None = None,
        permissions: Mapping[str, str] | None = None,
    ) -> Installation:
        """Install the App on an account: on all its repositories, or on those given."""
        installation = Installation(
            id=self._ground.number("installation"),
            account=self.account(login),
            permissions=dict(self.app.permissions if permissions is None else permissions),
            repositories=None if repositories is None else {repository.id for repository in repositories},
            created_at=self._ground.now(),
        )
        self.installations[installation.id] = installation
        return installation

    def uninstall(self, installation: Installation) -> None:
        """Take the App away; its tokens end at once, and a later installation has another id."""
        del self.installations[installation.id]
        self.tokens = {text: t for text, t in self.tokens.items() if t.installation is not installation}

    def replace_key(self) -> None:
        """Give the App another private key; whoever signs with the former one is refused."""
        self.app.key = rsa_key("app, replaced")
        self._ground.keep(self.app.pem)

    def replace_app(self, app: App) -> None:
        """Let a new App take the place of the present one, which leaves every account."""
        for installation in tuple(self.installations.values()):
            self.uninstall(installation)
        self.app = app
        self._ground.keep(app.pem)

    def revoke_tokens(self) -> None:
        """End every token at once, before its time."""
        self.tokens.clear()

    def add_token(self, login: str, permissions: Mapping[str, str] | None = None) -> Token:
        """Make a personal access token, which acts for *login* and for every organization."""
        permissions = dict(DEFAULT_PERMISSIONS if permissions is None else permissions)
        text = self._ground.keep(f"github_pat_{self._ground.hex(82)}")
        token = Token(text=text, account=self.account(login), permissions=permissions)
        self.tokens[text] = token
        return token

    def account(self, login: str) -> Account:
        """Return an account, or answer 404."""
        return found(self.accounts.get(login.casefold()))

    def repository(self, full_name: str) -> Repository:
        """Return a repository, or answer 404."""
        return found(self.repositories.get(full_name.casefold()))

    def group(self, organization: str, group_id: int) -> Group:
        """Return a runner group, or answer 404."""
        return found(self.groups.get(organization.casefold(), {}).get(group_id))

    def installation_of(self, login: str) -> Installation:
        """Return the App's installation on an account, or answer 404."""
        account = self.account(login)
        return found(next((i for i in self.installations.values() if i.account is account), None))

    def check_jwt(self, text: str) -> None:
        """Verify an App's JWT as of now, or answer 401."""
        now = self._ground.now().timestamp()
        try:
            # The model's clock may be virtual, so the times are checked here and not by the library.
            options: Options = {"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp"]}
            claims = jwt.decode(text, self.app.key.public_key(), algorithms=["RS256"], options=options)
        except jwt.PyJWTError as error:
            raise ApiError(401, "A JSON web token could not be decoded") from error
        if text not in self._ground.secrets:
            self._ground.keep(text)
        issuer, issued, expires = claims["iss"], claims["iat"], claims["exp"]
        if str(issuer) not in {str(self.app.id), self.app.client_id}:
            raise ApiError(401, "'Issuer' claim ('iss') must be an Integer, assigned to the app")
        if not all(isinstance(time, int | float) for time in (issued, expires)):
            raise ApiError(401, "A JSON web token could not be decoded")
        if issued > now + CLOCK_SKEW:
            what = "an Integer representing the time that the assertion was issued"
            raise ApiError(401, f"'Issued at' claim ('iat') must be {what}")
        if expires <= now:
            what = "a numeric value representing the future time at which the assertion expires"
            raise ApiError(401, f"'Expiration time' claim ('exp') must be {what}")
        if expires - now > JWT_LIFE:
            raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")

    def mint_token(
        self,
        installation_id: int,
        *,
        permissions: Mapping[str, str] | None = None,
        repositories: Iterable[str] | None = None,
        repository_ids: Iterable[int] | None = None,
    ) -> Token:
        """Make an installation token, narrowed where asked."""
        installation = found(self.installations.get(installation_id))
        if installation.suspended_at is not None:
            raise ApiError(403, "This installation has been suspended")
        token = Token(
            text=self._token_text(),
            account=installation.account,
            permissions=self._narrowed(installation, permissions),
            installation=installation,
            repositories=self._chosen(installation, repositories, repository_ids),
            expires_at=self._ground.now() + TOKEN_LIFE,
        )
        self.tokens[token.text] = token
        return token

    def _token_text(self) -> str:
        if self.stateless_tokens:
            body = ".".join((self._ground.hex(36), self._ground.hex(400), self._ground.hex(43)))
            return self._ground.keep(f"ghs_{self.app.id}_{body}")
        return self._ground.keep(f"ghs_{self._ground.hex(36)}")

    @staticmethod
    def _narrowed(installation: Installation, asked: Mapping[str, str] | None) -> dict[str, str]:
        if asked is None:
            return dict(installation.permissions)
        for name, level in asked.items():
            if not allows(installation.permissions, name, level):
                raise ApiError(422, "The permissions requested are not granted to this installation.")
        return dict(asked) | {"metadata": "read"}

    def _chosen(
        self, installation: Installation, names: Iterable[str] | None, ids: Iterable[int] | None
    ) -> set[int] | None:
        if names is None and ids is None:
            return installation.repositories
        wanted = {name.casefold() for name in names or ()}
        wanted_ids = set(ids or ())
        covered = [r for r in self.repositories.values() if installation.covers(r)]
        chosen = {r.id for r in covered if r.name.casefold() in wanted or r.id in wanted_ids}
        if len(chosen) != len(wanted | wanted_ids):
            raise ApiError(422, "There is at least one repository that does not exist or is not accessible.")
        return chosen

    def check_token(self, text: str) -> Token:
        """Return a valid token, or answer 401."""
        token = self.tokens.get(text)
        if token is None or (token.expires_at is not None and token.expires_at <= self._ground.now()):
            raise ApiError(401, "Bad credentials")
        if token.installation is not None and token.installation.suspended_at is not None:
            raise ApiError(403, "This installation has been suspended")
        return token

    def check_access(
        self, token: Token, owner: str, repository: Repository | None, wanted: Mapping[str, str]
    ) -> None:
        """Check that *token* may do what needs *wanted* there; answer 403 with what is missing, or 404."""
        if token.installation is not None:
            if token.account is not self.account(owner):
                raise ApiError(404, "Not Found")
            if (
                token.repositories is not None
                and repository is not None
                and repository.id not in token.repositories
            ):
                raise ApiError(404, "Not Found")
        missing = [name for name, level in wanted.items() if not allows(token.permissions, name, level)]
        if missing:
            accepted = ",".join(f"{name}={level}" for name, level in wanted.items())
            who = "integration" if token.installation else "personal access token"
            message = f"Resource not accessible by {who}"
            raise ApiError(403, message, {"x-accepted-github-permissions": accepted})

    def listeners(self, repository: Repository) -> list[Installation]:
        """Return the installations that hear of the jobs of *repository*."""
        return [
            installation
            for installation in self.installations.values()
            if installation.covers(repository)
            and installation.suspended_at is None
            and "workflow_job" in installation.events
            and allows(installation.permissions, "actions", "read")
        ]


def allows(permissions: Mapping[str, str], name: str, level: str) -> bool:
    """Whether *permissions* hold *name* at *level* or above."""
    return LEVELS.get(permissions.get(name, ""), 0) >= LEVELS[level]


def found(thing: T | None) -> T:
    """Return what was looked for, or answer 404."""
    if thing is None:
        raise ApiError(404, "Not Found")
    return thing
