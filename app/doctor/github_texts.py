"""What may be wrong at GitHub: each check with its troubles and mends (docs/contracts/github.md)."""

from __future__ import annotations

from app.doctor.finding import Check, failure, warning

APP_PAGE = "on the App's page, under Permissions & events"
ACCEPT = "then accept the change on the page of each installation"

CREDENTIALS = Check(
    area="github",
    name="credentials",
    looks_at="whether GitHub knows the App (or token)",
    why="Without it no runner can be registered.",
    troubles={
        "refused": failure("{said}", "{mend}"),
        "unavailable": failure("{said}", "{mend}"),
    },
)
PERMISSIONS = Check(
    area="github",
    name="permissions",
    looks_at="the App's permissions, and whether each installation has accepted them",
    why="Each is needed to see jobs or to register runners, and no more than these should be given.",
    troubles={
        "lacking": failure("the App lacks {what}", "grant it " + APP_PAGE + ", " + ACCEPT),
        "not_accepted": failure(
            "the installation on {account} has not accepted {what}",
            "an owner of {account} accepts the request on the installation's page (Settings > GitHub Apps > Configure)",
        ),
    },
)
EVENTS = Check(
    area="github",
    name="events",
    looks_at="the App's subscription to workflow_job",
    why="It is how GitHub tells that a job waits; without it jobs are found by asking, which is slower.",
    troubles={
        "missing": failure("the App does not subscribe to Workflow job", "tick Workflow job " + APP_PAGE)
    },
)
INSTALLATION = Check(
    area="github",
    name="installation",
    looks_at="whether the App is installed where the pools' repositories are, and sees them",
    why="GitHub tells an App only of repositories that it is installed on.",
    troubles={
        "missing": failure(
            "the App is not installed on {owner}, which pool {pool} names",
            "install it there: {name}'s page, Install App",
        ),
        "suspended": failure(
            "the installation on {owner} is suspended", "unsuspend it on the page of the installation"
        ),
        "unseen": failure(
            "pool {pool} names {repository}, and the App does not see it",
            "give the installation on {owner} access to it, or correct the pool's repositories",
        ),
        "trouble": failure("{said}", "{mend}"),
    },
)
GROUP = Check(
    area="github",
    name="runner-group",
    looks_at="the runner group that each organization's pools register in: whom it admits, and whether that drifted",
    why="GitHub, not CiderMill, picks the job for an organization's runner, from all repositories that its group "
    "admits; and a group that forbids public repositories leaves their jobs queued for ever.",
    troubles={
        "missing": failure(
            "pool {pool}: {owner} has no runner group {group}",
            "create it (Organization settings > Actions > Runner groups), or correct runner_group",
        ),
        "too_open": failure(
            "pool {pool}: the group {group} of {owner} admits {others}, which the pool does not serve",
            "let the group admit selected repositories only, those of the pool, or add them to the pool",
        ),
        "falls_back": warning(
            "pool {pool}: the group {group} of {owner} admits {others}, so that runners register at single "
            "repositories, which needs the stronger permission Administration",
            "let the group admit selected repositories only, those of the pool",
        ),
        "not_admitted": failure(
            "pool {pool}: the group {group} of {owner} does not admit {repository}", "add it to the group"
        ),
        "no_public": failure(
            "pool {pool}: {repository} is public, and the group {group} of {owner} forbids public repositories",
            "tick Allow public repositories in the group, after reading docs/security.md",
        ),
    },
)
HOOK = Check(
    area="github",
    name="webhook-url",
    looks_at="where the App sends its webhooks, and how",
    why="A job is known in a second by its webhook, and in a minute without.",
    troubles={
        "none": failure(
            "the App has no webhook URL",
            "set it to https://YOUR-HOST/webhooks/github on the App's page (docs/tunnel.md)",
        ),
        "elsewhere": failure(
            "it is {url}, and that does not end in /webhooks/github",
            "correct it on the App's page, under Webhook",
        ),
        "unreached": warning(
            "no webhook reaches this Mac yet: jobs are found by asking GitHub, every {every} s or less often",
            "open a way in for them (docs/tunnel.md), and tell GitHub: "
            "`cidermill setup --webhook-url https://HOST`, or on the webhook's own page",
        ),
        "drifted": warning("it is {url}, and public_url is {public}", "correct whichever is wrong"),
        "form": failure(
            "webhooks are sent as a form, which is refused",
            "set Content type to application/json on the App's page",
        ),
        "insecure": warning(
            "GitHub does not check the certificate there",
            "enable SSL verification on the App's page, under Webhook",
        ),
    },
)
DELIVERIES = Check(
    area="github",
    name="deliveries",
    looks_at="GitHub's log of the webhooks that it sent lately",
    why="It shows whether GitHub reaches this server through the tunnel.",
    troubles={
        "none": warning(
            "GitHub sent none in the last three days",
            "start any workflow with a job for these runners, and look again",
        ),
        "last_failed": failure(
            "the last one ({event}, {at} UTC) failed: {status}",
            "see whether the tunnel is up and passes POST /webhooks/github, and whether the server runs "
            "(docs/tunnel.md); with 401 set github_webhook_secret to the App's",
        ),
        "some_failed": warning(
            "{failed} of the last {count} failed, the newest at {at} UTC: {status}",
            "see what happened then in the server's log and the tunnel's; what was missed was fetched from GitHub",
        ),
        "unseen": warning("{said}", "{mend}"),
    },
)
PING = Check(
    area="github",
    name="redelivery",
    looks_at="a ping (or the newest delivery) that GitHub is asked to send again now",
    why="It is the whole way from GitHub through the tunnel to this server, tried out.",
    troubles={
        "failed": failure(
            "GitHub tried, and it failed: {status}",
            "see whether the tunnel is up and passes POST /webhooks/github, and whether the server runs "
            "(docs/tunnel.md); with 401 set github_webhook_secret to the App's",
        ),
        "late": warning(
            "GitHub has not said yet what became of it",
            "look at the App's page, under Advanced, Recent Deliveries",
        ),
    },
)
QUOTA = Check(
    area="github",
    name="quota",
    looks_at="what is left of GitHub's limits this hour",
    why="Below a fifth jobs are no longer asked for, and at nothing no runner is registered.",
    troubles={
        "low": warning(
            "{left} of {limit} questions are left for {name}, until {reset}", "set poll_interval higher"
        ),
        "gone": failure(
            "no question is left for {name}, until {reset}",
            "wait until then, set poll_interval higher, and see who else uses the App (or token)",
        ),
    },
)
CLOCK = Check(
    area="github",
    name="github-clock",
    looks_at="this machine's clock against GitHub's",
    why="GitHub refuses an App whose clock is a minute ahead, or ten behind.",
    troubles={
        "skewed": warning(
            "it is {seconds} s {direction} GitHub's", "let this machine set its clock by the network"
        ),
        "far_off": failure(
            "it is {seconds} s {direction} GitHub's",
            "`sudo sntp -sS time.apple.com` on a Mac, and let this machine set its clock by the network",
        ),
    },
)
