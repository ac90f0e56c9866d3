"""What an SMPP account says and understands: parcels as submit_sm, deliver_sm as reports and inbound texts.

Pure but for what it has learned. Entry point: Tongue, a speech.Speech. Source: SMPP 3.4 Issue 1.2 [P34].
It is called for every PDU, and what it does there, it does as cheaply as it can.

Surprise: only the receipt bits of esm_class make a report. A text that looks like a receipt is a text, so no
handset can forge one; centres that forget the bits need receipts_by_text, which says what that costs.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import msgspec

from hongyan import clock
from hongyan.channels import dialects, numbers, smpp_codes
from hongyan.channels.channel import Ack, Declined, Inbound, Outcome, Parcel, Report, Unsure
from hongyan.channels.dialects import Dialect
from hongyan.channels.numbers import NumberForm
from hongyan.channels.smpp_config import ByteOrder, Charset, Config, ReportFor
from hongyan.channels.speech import Duty
from hongyan.channels.trace import Lens
from hongyan.vocab import text as texts
from hongyan.vocab.cause import Cause
from hongyan.vocab.message import Status
from hongyan.vocab.text import Encoding, Shift, Split
from hongyan.wire import fields, smpp
from hongyan.wire.smpp import CommandStatus, DeliverSm, MessageState, SubmitSm

SHORT_MESSAGE_OCTETS_MAX = 254  # "sm_length 0–254" [P34 5.2.21]; above it message_payload
CHARSET_SIZES = {Charset.LATIN1: 256, Charset.ASCII: 128}
VALIDITY_S_MAX = 31 * 86_400 + 86_399  # what the relative form can say


def _inside(pdu: fields.Pdu) -> Mapping[str, object]:
    """What a trace shows of a receipt."""
    receipt = smpp.receipt(pdu) if isinstance(pdu, DeliverSm) else None
    return {} if receipt is None else {"id": receipt.message_id, "stat": receipt.stat, "err": receipt.error}


class Tongue:
    """What this account says and understands: a speech.Speech."""

    dialect = smpp.DIALECT
    lens = Lens(
        numbers=frozenset({"source_addr", "destination_addr", "esme_addr", "addr"}),
        ids=frozenset({"message_id", "id"}),
        inside=_inside,
    )

    def __init__(self, config: Config) -> None:
        self.id_dialect = config.id_dialect
        self.remark = ""
        self._config = config
        self._codings = _codings(config)
        self._write_number = numbers.writer(config.number_form, config.country_code)
        self._codes = smpp_codes.Codes(config.verdicts, config.causes)
        self._extra = tuple(_extra_tlv(tag, value) for tag, value in config.tlvs.items())
        self._address = lru_cache(maxsize=4096)(self._read_sender)  # senders repeat

    def login(self, duty: Duty) -> smpp.Bind:
        binds = {
            Duty.BOTH: smpp.BindTransceiver,
            Duty.SUBMIT: smpp.BindTransmitter,
            Duty.RECEIVE: smpp.BindReceiver,
        }
        config = self._config
        return binds[duty](
            system_id=config.system_id,
            password=config.password.reveal(),
            system_type=config.system_type,
            interface_version=config.interface_version,
        )

    def welcomed(self, login: fields.Pdu, response: fields.Pdu) -> str:  # noqa: ARG002
        return ""

    def refusal(self, pdu: fields.Pdu) -> str:
        assert isinstance(pdu, smpp.Pdu)
        return f"bind refused: {smpp_codes.name(pdu.command_status)}"

    # submit

    def can_say(self, text: str) -> bool:
        """Whether data_coding 0 of this upstream has every character of a GSM-7 text."""
        charset = self._config.charset_out
        if charset is Charset.GSM7:
            return True
        return all(ord(character) < CHARSET_SIZES[charset] for character in text)

    def put(self, parcel: Parcel) -> SubmitSm | Declined:
        config = self._config
        coding = self._codings.get(parcel.encoding)
        if coding is None:
            return Declined("data_coding", Cause.UNSUPPORTED)
        data_coding, transcode = coding
        octets, language = parcel.octets, parcel.language
        if transcode is not None:
            try:
                octets, language = transcode(octets, _shift(language)), 0  # no septets, no tables
            except texts.Unencodable:
                return Declined("charset", Cause.UNSUPPORTED)
        esm_class, registered_delivery, tlvs = 0, config.registered_delivery, self._extra
        if parcel.part_count > 1 or language:
            octets, esm_class, registered_delivery, tlvs = self._place(parcel, octets, language)
        if len(octets) > SHORT_MESSAGE_OCTETS_MAX or config.split is Split.PAYLOAD:
            # "either the short_message field or message_payload, but not both" [P34 4.4.1]
            tlvs, octets = (*tlvs, (smpp.TLVS.tag("message_payload"), octets)), b""
        ton, npi, address = self._address(parcel.sender)
        return SubmitSm(
            0,  # positional, in the order of the table: by name it takes twice as long
            0,
            config.service_type,
            ton,
            npi,
            address,
            config.destination_ton,
            config.destination_npi,
            self._write_number(parcel.number),
            esm_class,
            0,
            config.priority,
            "",
            _validity(parcel.validity_s) if parcel.validity_s and config.validity else "",
            registered_delivery,
            0,
            data_coding,
            0,
            octets,
            tlvs,
        )

    def _place(
        self, parcel: Parcel, octets: bytes, language: int
    ) -> tuple[bytes, int, int, tuple[fields.Tlv, ...]]:
        """Say which part of a long text this is: octets, esm_class, registered_delivery, parameters."""
        config = self._config
        reporting = {ReportFor.FIRST: 1, ReportFor.LAST: parcel.part_count}.get(
            config.report_for, parcel.part_index
        )
        registered = config.registered_delivery if parcel.part_index == reporting else 0
        if config.split is Split.SAR and parcel.part_count > 1:
            sar = (
                smpp.TLVS.write("sar_msg_ref_num", parcel.reference),
                smpp.TLVS.write("sar_total_segments", parcel.part_count),
                smpp.TLVS.write("sar_segment_seqnum", parcel.part_index),
            )
            return octets, 0, registered, (*self._extra, *sar)
        header = texts.udh(
            parcel.reference, parcel.part_count, parcel.part_index, config.split, _shift(language)
        )
        return header + octets, smpp.ESM_UDHI if header else 0, registered, self._extra

    def _read_sender(self, sender: str) -> tuple[int, int, str]:
        digits = sender.removeprefix("+")
        if not digits.isdecimal():
            return 5, 0, sender  # alphanumeric [P34 5.2.5]
        ton = 1 if digits != sender else self._config.sender_ton
        return ton, self._config.sender_npi, digits

    # answers

    def outcome(self, pdu: fields.Pdu) -> Outcome:
        assert isinstance(pdu, smpp.Pdu)
        if pdu.command_status == 0 and isinstance(pdu, smpp.SubmitSmResp):
            raw = pdu.message_id
            if not raw:
                self.remark = "acks come without message_id: their reports cannot be matched"
            return Ack(dialects.canonical(raw), raw)
        if pdu.command_status == 0:
            return Unsure(f"answered by {type(pdu).__name__}")
        return self._codes.outcome(pdu.command_status)

    # reports and inbound

    def hear(self, pdu: fields.Pdu, connection: object, at_s: float) -> Report | Inbound | fields.Pdu | None:
        if isinstance(pdu, DeliverSm):
            slot = (connection, smpp.DeliverSmResp(pdu.sequence_number))
            deliver = pdu
        elif isinstance(pdu, smpp.DataSm):
            slot = (connection, smpp.DataSmResp(pdu.sequence_number))  # type: ignore[assignment]  # a response too
            deliver = _as_deliver(pdu)
        else:
            assert isinstance(pdu, smpp.Pdu)
            return smpp.respond(pdu, CommandStatus.INVBNDSTS)
        receipt = smpp.receipt(deliver) or (
            self._unmarked(deliver) if self._config.receipts_by_text else None
        )
        if receipt is None:
            return self._inbound(deliver, slot, at_s)
        return self._report(
            receipt, self._read_number(deliver.source_addr, deliver.source_addr_ton), slot, at_s
        )

    def _report(self, receipt: smpp.Receipt, number: str, slot: object, at_s: float) -> Report:
        status, cause, code, final = self._codes.meaning(
            receipt.state, receipt.stat, receipt.error, receipt.network_error
        )
        if receipt.intermediate:
            status, final = Status.SUBMITTED, False
        upstream_id = dialects.canonical(receipt.message_id)
        others: tuple[str, ...] = ()
        if self.id_dialect is Dialect.AUTO:
            others = dialects.candidates(upstream_id)
        elif self.id_dialect is not Dialect.AS_IS:
            upstream_id = dialects.translate(upstream_id, self.id_dialect) or upstream_id
        # The receipt's own times name no zone, so the moment of its coming is what can be relied on.
        return Report(upstream_id, status, cause, code, at_s, others, number, final, slot)

    def _unmarked(self, deliver: DeliverSm) -> smpp.Receipt | None:
        """Read a receipt of a centre that forgets the bits: it must name an id and a state."""
        receipt = smpp.receipt(msgspec.structs.replace(deliver, esm_class=smpp.ESM_RECEIPT))
        return receipt if receipt is not None and receipt.message_id and receipt.stat else None

    def _inbound(self, deliver: DeliverSm, slot: object, at_s: float) -> Inbound:
        octets = deliver.short_message
        if not octets and deliver.tlvs:
            payload = smpp.TLVS.read(deliver.tlvs, "message_payload")
            octets = payload if isinstance(payload, bytes) else b""
        part = texts.read_udh(octets, bool(deliver.esm_class & smpp.ESM_UDHI))
        reference, index, count, width = part.ref, part.index, part.total, part.width
        if not width and deliver.tlvs:
            reference, index, count, width = _read_sar(deliver.tlvs)
        return Inbound(
            self._read_number(deliver.source_addr, deliver.source_addr_ton),
            deliver.destination_addr.removeprefix("+"),
            self._read_text(part.body, deliver.data_coding, part.shift),
            at_s,
            index,
            count,
            reference,
            2 if width == 16 else 1,
            slot,
        )

    def _read_text(self, octets: bytes, data_coding: int, shift: Shift) -> str:
        if data_coding in OTHER_CHARSETS:
            return octets.decode(OTHER_CHARSETS[data_coding], "replace")
        encoding = _encoding(data_coding) or Encoding(self._config.charset_in.value)
        return texts.decode(octets, encoding, shift=shift, sniff=self._config.sniff_ucs2)

    def _read_number(self, written: str, ton: int) -> str:
        """Return E.164 with plus; what cannot be one (a name, national without country_code) as it is."""
        digits = written.removeprefix("+")
        if ton == 5 or not digits.isdecimal():
            return written
        if digits.startswith("00"):
            return "+" + digits[2:]
        country_code = self._config.country_code
        national = ton == 2 or (ton != 1 and self._config.number_form is NumberForm.NATIONAL)
        if national and country_code and digits == written:
            return f"+{country_code}{digits.lstrip('0')}"
        return "+" + digits

    # queries

    def query(self, upstream_raw: str, sender: str) -> smpp.QuerySm | None:
        """Write the question what became of a part; None where its id or sender cannot be asked about."""
        ton, npi, address = self._address(sender)
        pdu = smpp.QuerySm(
            message_id=upstream_raw, source_addr_ton=ton, source_addr_npi=npi, source_addr=address
        )
        try:
            smpp.encode(pdu, 1)
        except fields.LocalProtocolError:
            return None  # an id or sender that no query can carry
        return pdu if upstream_raw else None

    def read_query(self, pdu: fields.Pdu, upstream_raw: str, number: str) -> Report | None:
        """Read query_sm_resp; None if the centre does not know (or does not answer queries)."""
        if not isinstance(pdu, smpp.QuerySmResp) or pdu.command_status or pdu.bare:
            return None
        state = MessageState(pdu.message_state) if pdu.message_state <= MessageState.SKIPPED else None
        if state is None or state is MessageState.UNKNOWN:
            return None
        error = f"{pdu.error_code:03}" if pdu.error_code else ""
        status, cause, code, final = self._codes.meaning(state, "", error, None)
        upstream_id = dialects.canonical(upstream_raw)
        return Report(upstream_id, status, cause, code, clock.now_s(), (), number, final)


# ── numbers, charsets, codes ─────────────────────────────────────────────────────────────────────────

Transcode = Callable[[bytes, Shift], bytes]

OTHER_CHARSETS = {  # data_coding [P34 5.2.19] of what people text where neither GSM-7 nor UCS-2 is used
    5: "shift_jis",
    6: "iso8859_5",
    7: "iso8859_8",
    10: "iso2022_jp",
    13: "euc_jp",
    14: "euc_kr",
}


def _codings(config: Config) -> dict[Encoding, tuple[int, Transcode | None]]:
    """Return data_coding and rewriting for each encoding a parcel may come in; GBK has no number in SMPP."""
    default = Encoding(config.charset_out.value)
    codings: dict[Encoding, tuple[int, Transcode | None]] = {
        Encoding.ASCII: (1, None),
        Encoding.LATIN1: (3, None),
        Encoding.UCS2: (8, _swapped if config.ucs2_order is ByteOrder.LITTLE else None),
        default: (0, None),
    }
    if default is not Encoding.GSM7:
        codings[Encoding.GSM7] = (0, _from_gsm7(default))
    return codings


def _from_gsm7(charset: Encoding) -> Transcode:
    def transcode(septets: bytes, shift: Shift) -> bytes:
        return texts.encode(texts.decode(septets, Encoding.GSM7, shift=shift), charset)

    return transcode


def _swapped(octets: bytes, _shift: Shift) -> bytes:
    swapped = bytearray(octets)
    swapped[0::2], swapped[1::2] = octets[1::2], octets[0::2]
    return bytes(swapped)


def _encoding(data_coding: int) -> Encoding | None:
    """Return the encoding a data_coding stands for; None for the centre's default."""
    if data_coding == 1:
        return Encoding.ASCII
    if data_coding in (2, 3, 4):  # binary is shown octet by octet: nothing is lost
        return Encoding.LATIN1
    # From 0x10 on it is a data coding scheme of 3GPP TS 23.038 §4: bits 3-2 of the general group,
    # group 0xE is UCS-2 (message waiting), in group 0xF bit 2 says 8-bit data.
    if (
        data_coding == 8
        or (0x10 <= data_coding < 0x40 and data_coding & 0x0C == 0x08)
        or data_coding >> 4 == 0xE
    ):
        return Encoding.UCS2
    if (0x10 <= data_coding < 0x40 and data_coding & 0x0C == 0x04) or data_coding & 0xF4 == 0xF4:
        return Encoding.LATIN1
    return None if data_coding == 0 else Encoding.GSM7


def _shift(language: int) -> Shift:
    return Shift(language >> 8, language & 0xFF) if language else texts.PLAIN


@lru_cache(maxsize=1024)
def _validity(validity_s: int) -> str:
    return smpp.relative_time(min(validity_s, VALIDITY_S_MAX))


def _extra_tlv(tag: str, value: str) -> fields.Tlv:
    """Read one configured parameter: octets in hex, or text: and the text, which gets its NUL."""
    if value.startswith("text:"):
        return int(tag, 16), value.removeprefix("text:").encode() + b"\0"
    return int(tag, 16), bytes.fromhex(value)


def _read_sar(tlvs: Sequence[fields.Tlv]) -> tuple[int, int, int, int]:
    """Return reference, index, count and reference width by the sar_ parameters, or those of a whole text."""
    reference = smpp.TLVS.read(tlvs, "sar_msg_ref_num")
    count = smpp.TLVS.read(tlvs, "sar_total_segments")
    index = smpp.TLVS.read(tlvs, "sar_segment_seqnum")
    if (
        isinstance(reference, int)
        and isinstance(count, int)
        and isinstance(index, int)
        and 0 < index <= count
    ):
        return reference, index, count, 16
    return 0, 1, 1, 0


def _as_deliver(pdu: smpp.DataSm) -> DeliverSm:
    return DeliverSm(
        sequence_number=pdu.sequence_number,
        source_addr_ton=pdu.source_addr_ton,
        source_addr_npi=pdu.source_addr_npi,
        source_addr=pdu.source_addr,
        dest_addr_ton=pdu.dest_addr_ton,
        dest_addr_npi=pdu.dest_addr_npi,
        destination_addr=pdu.destination_addr,
        esm_class=pdu.esm_class,
        data_coding=pdu.data_coding,
        tlvs=pdu.tlvs,
    )
