"""What SMPP's numbers and words mean for us: statuses of a submit, states and errors of a receipt.

Pure. Entry points: Codes, one per account, because an account may overrule any row; name().
Source: SMPP 3.4 Issue 1.2 [P34] 5.1.3, 5.2.28, appendix B. Unknown codes are kept and have cause unknown.
"""

from collections.abc import Mapping
from functools import lru_cache

from hongyan.channels import codes
from hongyan.channels.codes import Meaning, Told, Verdict
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.wire import smpp
from hongyan.wire.smpp import CommandStatus, MessageState

# Throttling pauses the channel (vumi#636: 0x14 is used for it as well). A centre that answers with an error
# has not taken the message, so temporary faults are Unreachable: another channel may try.
VERDICTS: Mapping[int, Meaning] = {
    CommandStatus.INVMSGLEN: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVCMDLEN: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVCMDID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVBNDSTS: (Verdict.UNREACHABLE, Cause.NETWORK),
    CommandStatus.INVPRTFLG: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVREGDLVFLG: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.SYSERR: (Verdict.UNREACHABLE, Cause.NETWORK),
    CommandStatus.INVSRCADR: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVDSTADR: (Verdict.DECLINED, Cause.INVALID_NUMBER),
    CommandStatus.MSGQFUL: (Verdict.THROTTLED, Cause.RATE_LIMITED),
    CommandStatus.INVSERTYP: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVESMCLASS: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.SUBMITFAIL: (Verdict.DECLINED, Cause.REJECTED),
    CommandStatus.INVSRCTON: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVSRCNPI: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVDSTTON: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVDSTNPI: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVSYSTYP: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVREPFLAG: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.THROTTLED: (Verdict.THROTTLED, Cause.RATE_LIMITED),
    CommandStatus.INVSCHED: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVEXPIRY: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVDFTMSGID: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.X_T_APPN: (Verdict.UNREACHABLE, Cause.NETWORK),
    CommandStatus.X_P_APPN: (Verdict.DECLINED, Cause.REJECTED),
    CommandStatus.X_R_APPN: (Verdict.DECLINED, Cause.REJECTED),
    CommandStatus.INVOPTPARSTREAM: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.OPTPARNOTALLWD: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVPARLEN: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.MISSINGOPTPARAM: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.INVOPTPARAMVAL: (Verdict.DECLINED, Cause.UNSUPPORTED),
    CommandStatus.DELIVERYFAILURE: (Verdict.DECLINED, Cause.UNREACHABLE),
    CommandStatus.UNKNOWNERR: (Verdict.DECLINED, Cause.UNKNOWN),
    CommandStatus.SERTYPUNAUTH: (Verdict.DECLINED, Cause.REJECTED),
    CommandStatus.PROHIBITED: (Verdict.DECLINED, Cause.REJECTED),
    CommandStatus.SERTYPUNAVAIL: (Verdict.UNREACHABLE, Cause.NETWORK),
    CommandStatus.SERTYPDENIED: (Verdict.DECLINED, Cause.REJECTED),
    CommandStatus.INVDCS: (Verdict.DECLINED, Cause.UNSUPPORTED),
}

# message_state [P34 5.2.28] → status and the cause where nothing better is said.
STATES: Mapping[MessageState, tuple[Status, Cause]] = {
    MessageState.SCHEDULED: (Status.SUBMITTED, Cause.NONE),
    MessageState.ENROUTE: (Status.SUBMITTED, Cause.NONE),
    MessageState.ACCEPTED: (Status.SUBMITTED, Cause.NONE),
    MessageState.DELIVERED: (Status.DELIVERED, Cause.NONE),
    MessageState.EXPIRED: (Status.EXPIRED, Cause.EXPIRED),
    MessageState.DELETED: (Status.UNDELIVERED, Cause.REJECTED),
    MessageState.UNDELIVERABLE: (Status.UNDELIVERED, Cause.UNREACHABLE),
    MessageState.REJECTED: (Status.UNDELIVERED, Cause.REJECTED),
    MessageState.SKIPPED: (Status.UNDELIVERED, Cause.REJECTED),
    MessageState.UNKNOWN: (Status.UNKNOWN, Cause.UNKNOWN),
}

WORDS: Mapping[
    MessageState, str
] = {  # as receipts spell them [P34 appendix B], where only the parameter came
    MessageState.DELIVERED: "DELIVRD",
    MessageState.UNDELIVERABLE: "UNDELIV",
    MessageState.ACCEPTED: "ACCEPTD",
    MessageState.REJECTED: "REJECTD",
}

NetworkError = tuple[int, int] | None  # type and code of the parameter network_error_code


class Codes(codes.Codes):
    """The tables of one account: ours, and over them what the account says otherwise."""

    def __init__(self, verdicts: Mapping[str, Verdict], overruled: Mapping[str, Cause]) -> None:
        """Raises ValueError for a verdict whose command_status is not written in hex.

        verdicts: command_status → verdict · overruled: their code, or a command_status as 0x45 → cause.
        """
        read = {int(status, 16): verdict for status, verdict in verdicts.items()}
        super().__init__(VERDICTS, read, overruled, name=name, key="0x{:02X}".format)
        # A few dozen combinations make nearly all receipts; a vendor's endless error texts stay bounded.
        self.meaning = lru_cache(maxsize=1024)(self._meaning)

    def _meaning(self, state: MessageState, stat: str, error: str, network_error: NetworkError) -> Told:
        """Return status, cause, their code (the word, and the error where it says anything), finality."""
        word = stat or WORDS.get(state, state.name)
        if not error.strip("0") and network_error is not None and network_error[1]:
            error = f"{network_error[0]}:{network_error[1]}"
        code = f"{word}/{error}" if error.strip("0") else word
        status, cause = STATES[state]
        if status is Status.DELIVERED or not state.final:
            return Told(status, cause, code, state.final)
        better = self._explain(code, error, word)
        if better is None:
            return Told(status, cause, code, final=True)
        if better is Cause.NONE:  # only an account says that
            return Told(Status.DELIVERED, Cause.NONE, code, final=True)
        # A word the specification lacks, but somebody has explained: it names a failure.
        failed = Status.EXPIRED if better is Cause.EXPIRED else Status.UNDELIVERED
        return Told(failed if status is Status.UNKNOWN else status, better, code, final=True)

    def _explain(self, code: str, error: str, word: str) -> Cause | None:
        """Find a cause better than the state's."""
        if (found := self.overruled(code, error, word)) is not None:
            return found
        for key in (error, word):
            if key.upper() not in smpp.STATS:
                told = codes.of_carrier(key)
                if told is not None and told.final and told.cause is not Cause.UNKNOWN:
                    return told.cause
        return None


def name(command_status: int) -> str:
    """Name a command_status as people search for it: THROTTLED (0x58), or its number alone."""
    written = CommandStatus(command_status).name
    return written if written.startswith("0x") else f"{written} (0x{command_status:02X})"
