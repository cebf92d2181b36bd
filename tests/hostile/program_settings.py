"""Every setting of git: which ones name a program, and what is planted in a repository for each.

A key of `git help --config` that no line here knows fails a test, so that somebody has to look.
"""

import re
from typing import Final

from tests.hostile.shipped import EVIL, GIT_COMMANDS

Setting = tuple[str, str]

PROGRAMS: Final[dict[str, tuple[Setting, ...]]] = {
    "alias.*": tuple((f"alias.{name}", f"!{EVIL}") for name in GIT_COMMANDS),
    "browser.<tool>.cmd": (("browser.evil.cmd", EVIL),),
    "browser.<tool>.path": (("browser.w3m.path", EVIL),),
    "bundle.*": (("bundle.mode", "any"),),
    "bundle.<id>.*": (("bundle.evil.creationToken", "1"),),
    "bundle.<id>.uri": (("bundle.evil.uri", f"ext::{EVIL}"),),
    "core.alternateRefsCommand": (("core.alternateRefsCommand", EVIL),),
    "core.askPass": (("core.askPass", EVIL),),
    "core.editor": (("core.editor", EVIL),),
    "core.fsmonitor": (("core.fsmonitor", EVIL),),
    "core.gitProxy": (("core.gitProxy", EVIL),),
    "core.pager": (("core.pager", EVIL),),
    "core.sshCommand": (("core.sshCommand", EVIL),),
    "credential.<url>.*": (("credential.https://example.com.helper", f"!{EVIL}"),),
    "credential.helper": (("credential.helper", f"!{EVIL}"), ("credential.helper", "evil")),
    "diff.<driver>.command": (("diff.evil.command", EVIL),),
    "diff.<driver>.textconv": (("diff.evil.textconv", EVIL),),
    "diff.external": (("diff.external", EVIL),),
    "diff.guitool": (("diff.guitool", "evil"),),
    "diff.tool": (("diff.tool", "evil"),),
    "difftool.<tool>.cmd": (("difftool.evil.cmd", EVIL),),
    "difftool.<tool>.path": (("difftool.vimdiff.path", EVIL),),
    "filter.<driver>.clean": (("filter.evil.clean", EVIL),),
    "filter.<driver>.process": (("filter.other.process", EVIL), ("filter.other.required", "true")),
    "filter.<driver>.smudge": (("filter.evil.smudge", EVIL), ("filter.evil.required", "true")),
    "gc.recentObjectsHook": (("gc.recentObjectsHook", EVIL),),
    "gitcvs.dbDriver": (("gitcvs.dbDriver", "evil"),),
    "gpg.<format>.program": (("gpg.ssh.program", EVIL), ("gpg.x509.program", EVIL)),
    "gpg.program": (("gpg.program", EVIL),),
    "gpg.ssh.defaultKeyCommand": (("gpg.ssh.defaultKeyCommand", EVIL),),
    "guitool.<name>.cmd": (("guitool.evil.cmd", EVIL),),
    "help.browser": (("help.browser", "evil"),),
    "hook.<name>.command": (
        ("hook.evil.command", EVIL),
        ("hook.evil.event", "reference-transaction"),
        ("hook.evil.event", "pre-auto-gc"),
        ("hook.evil.event", "pre-push"),
    ),
    "imap.tunnel": (("imap.tunnel", EVIL),),
    "instaweb.browser": (("instaweb.browser", "evil"),),
    "instaweb.httpd": (("instaweb.httpd", EVIL),),
    "interactive.diffFilter": (("interactive.diffFilter", EVIL),),
    "man.<tool>.cmd": (("man.evil.cmd", EVIL),),
    "man.<tool>.path": (("man.woman.path", EVIL),),
    "man.viewer": (("man.viewer", "evil"),),
    "merge.<driver>.driver": (("merge.evil.driver", EVIL),),
    "merge.guitool": (("merge.guitool", "evil"),),
    "merge.tool": (("merge.tool", "evil"),),
    "mergetool.<tool>.cmd": (("mergetool.evil.cmd", EVIL),),
    "mergetool.<tool>.path": (("mergetool.vimdiff.path", EVIL),),
    "pager.<cmd>": tuple((f"pager.{name}", EVIL) for name in GIT_COMMANDS),
    "protocol.<name>.allow": tuple(
        (f"protocol.{name}.allow", "always") for name in ("ext", "evil", "file", "ssh")
    ),
    "protocol.allow": (("protocol.allow", "always"),),
    "remote.<name>.receivepack": (("remote.origin.receivepack", EVIL),),
    "remote.<name>.uploadpack": (("remote.origin.uploadpack", EVIL),),
    "sendemail.<identity>.*": (("sendemail.evil.smtpServer", EVIL),),
    "sendemail.ccCmd": (("sendemail.ccCmd", EVIL),),
    "sendemail.headerCmd": (("sendemail.headerCmd", EVIL),),
    "sendemail.sendmailCmd": (("sendemail.sendmailCmd", EVIL),),
    "sendemail.smtpServer": (("sendemail.smtpServer", EVIL),),
    "sendemail.tocmd": (("sendemail.tocmd", EVIL),),
    "sequence.editor": (("sequence.editor", EVIL),),
    "submodule.<name>.update": (("submodule.evil.update", f"!{EVIL}"),),
    "tar.<format>.command": (("tar.evil.command", EVIL),),
    "trailer.<keyAlias>.cmd": (("trailer.evil.cmd", EVIL), ("trailer.evil.key", "Evil")),
    "trailer.<keyAlias>.command": (("trailer.other.command", EVIL), ("trailer.other.key", "Other")),
    "uploadpack.packObjectsHook": (("uploadpack.packObjectsHook", EVIL),),
    "web.browser": (("web.browser", "evil"),),
}
"""By key as git documents it, some of which this git may not know: what is planted for it."""

PLANTED_APART: Final = frozenset(
    {
        "core.hooksPath",  # instead of the hooks in their folder
        "extensions.partialClone",  # with an object that is missing
        "extensions.worktreeConfig",  # all of the above in config.worktree
        "include.path",  # all of the above in a file that is included
        "includeIf.<condition>.path",
        "remote.<name>.promisor",
        "remote.<name>.pushurl",
        "remote.<name>.url",
        "remote.<name>.vcs",
        "url.<base>.insteadOf",
        "url.<base>.pushInsteadOf",
    }
)
"""These exclude others: each stands in a repository of its own (test_shipped_programs.py)."""

SWITCHES: Final[tuple[Setting, ...]] = (
    ("commit.gpgSign", "true"),
    ("push.gpgSign", "true"),
    ("tag.gpgSign", "true"),
    ("log.showSignature", "true"),
    ("core.attributesFile", ".gitattributes"),
    ("core.fsmonitorHookVersion", "2"),
    ("fetch.recurseSubmodules", "true"),
    ("gpg.format", "ssh"),
    ("user.signingKey", "key"),
    ("help.format", "web"),
    ("help.autoCorrect", "immediate"),
    ("diff.evil.cachetextconv", "true"),
    ("maintenance.auto", "true"),
)
"""They name nothing, and make git use what others name."""

_PLAIN_SECTIONS: Final = (
    "add advice am apply blame branch checkout clean clone color column commit commitGraph "
    "completion credentialCache credentialStore fastimport feature fetch format fsck fsmonitor "
    "gitcvs gitweb grep gui http i18n index init log lsrefs mailinfo mailmap maintenance notes "
    "pack pretty promisor pull push rebase receive remotes repack replay rerere reftable revert "
    "safe showBranch sideband sparse splitIndex ssh stash status tag trace2 transfer "
    "uploadarchive uploadpackfilter user versionsort worktree"
)
_PLAIN_NAMES: Final = {
    "author": "email name",
    "committer": "email name",
    "core": (
        "abbrev alternateRefsPrefixes attributesFile autocrlf bare bigFileThreshold "
        "checkRoundtripEncoding checkStat commentChar commentString commitGraph compression "
        "createObject deltaBaseCacheLimit eol excludesFile fileMode filesRefLockTimeout "
        "fsmonitorHookVersion fsync fsyncMethod fsyncObjectFiles hideDotFiles ignoreCase "
        "ignoreStat lockfilePid logAllRefUpdates looseCompression maxTreeDepth multiPackIndex "
        "notesRef packedGitLimit packedGitWindowSize packedRefsTimeout precomposeUnicode "
        "preferSymlinkRefs preloadIndex protectHFS protectNTFS quotePath repositoryFormatVersion "
        "restrictinheritedhandles safecrlf sharedRepository sparseCheckout sparseCheckoutCone "
        "splitIndex symlinks trustctime unsetenvvars untrackedCache useReplaceRefs "
        "warnAmbiguousRefs whitespace worktree"
    ),
    "credential": "interactive protectProtocol sanitizePrompt useHttpPath username",
    "bundle": "mode version heuristic",
    "diff": (
        "algorithm autoRefreshIndex binary cachetextconv colorMoved colorMovedWS context dirstat "
        "ignoreSubmodules indentHeuristic interHunkContext mnemonicPrefix noPrefix noprefix "
        "dstPrefix srcPrefix orderFile relative renameLimit renames statGraphWidth statNameWidth "
        "submodule suppressBlankEmpty trustExitCode wordRegex wsErrorHighlight xfuncname"
    ),
    "difftool": "guiDefault prompt trustExitCode",
    "extensions": (
        "compatObjectFormat noop noop-v1 objectFormat preciousObjects refStorage relativeWorktrees "
        "submodulePathConfig"
    ),
    "filter": "required",
    "gc": (
        "aggressiveDepth aggressiveWindow auto autoDetach autoPackLimit bigPackThreshold "
        "cruftPacks logExpiry maxCruftSize packRefs pruneExpire reflogExpire "
        "reflogExpireUnreachable repackFilter repackFilterTo rerereResolved rerereUnresolved "
        "worktreePruneExpire writeCommitGraph"
    ),
    "gpg": "allowedSignersFile format minTrustLevel revocationFile",
    "guitool": (
        "argPrompt confirm needsFile noConsole noRescan prompt revPrompt revUnmerged title"
    ),
    "help": "autoCorrect format htmlPath",
    "hook": "enabled event jobs parallel",
    "imap": (
        "authMethod folder host pass port preformattedHTML sslverify user"
    ),
    "instaweb": "local modulePath port",
    "interactive": "singleKey",
    "merge": (
        "autoStash autoEdit branchdesc conflictStyle defaultToUpstream directoryRenames ff log "
        "name recursive renameLimit renames renormalize stat suppressDest verbosity "
        "verifySignatures"
    ),
    "mergetool": (
        "guiDefault hasOutput hideResolved keepBackup keepTemporaries layout prompt trustExitCode "
        "useAutoMerge writeToTemp"
    ),
    "protocol": "version",
    "remote": (
        "fetch followRemoteHEAD mirror partialclonefilter proxy proxyAuthMethod prune pruneTags "
        "push pushDefault serverOption skipDefaultUpdate skipFetchAll tagOpt"
    ),
    "sendemail": (
        "aliasFileType aliasesFile annotate bcc cc chainReplyTo confirm envelopeSender "
        "forbidSendmailVariables from identity imapSentFolder mailmap multiEdit outlookidfix "
        "signedoffbycc smtpAuth smtpBatchSize smtpDomain smtpEncryption smtpPass smtpReloginDelay "
        "smtpSSLClientCert smtpSSLClientKey smtpServerOption smtpServerPort smtpUser "
        "smtpsslcertpath suppressFrom suppresscc thread to transferEncoding useImapOnly validate "
        "xmailer"
    ),
    "submodule": (
        "active alternateErrorStrategy alternateLocation branch fetchJobs fetchRecurseSubmodules "
        "ignore propagateBranches recurse url"
    ),
    "tar": "umask",
    "trailer": "ifexists ifmissing key separators where",
    "uploadpack": (
        "advertiseBundleURIs allowAnySHA1InWant allowFilter allowReachableSHA1InWant "
        "allowRefInWant allowTipSHA1InWant blobPackfileUri hideRefs keepAlive"
    ),
}  # fmt: skip
"""Where some of a section name programs, each of the others is known by its last part."""
_OF_SOME_PROGRAM: Final = re.compile(
    r"(cmd|command|program|hook|editor|pager|browser|helper|driver|viewer|tunnel|askpass)s?$", re.I
)
_INNOCENT: Final = frozenset(
    {
        "advice.ignoredHook",
        "advice.waitingForEditor",
        "color.pager",
        "completion.commands",
        "rebase.abbreviateCommands",
    }
)
"""They only sound like it."""


def names_program(key: str) -> bool | None:
    """Return whether a key, as git documents it, names a program; None for an unknown one."""
    if key in PROGRAMS or key in PLANTED_APART:
        return True
    section, _, rest = key.partition(".")
    if key in _INNOCENT:
        return False
    if section in _PLAIN_NAMES:
        return False if rest.rpartition(".")[2] in _PLAIN_NAMES[section].split() else None
    if section in _PLAIN_SECTIONS.split():
        return None if _OF_SOME_PROGRAM.search(key) else False
    return None


def planted() -> list[Setting]:
    """Return all settings that one repository can hold at once."""
    return [*SWITCHES, *(setting for settings in PROGRAMS.values() for setting in settings)]
