"""What goes wrong between real peers, forty-one of them by number, and the test that shows that we live with each.

The numbers are those of the house's list of gotchas; a test that is named for one carries its number. Most have several
tests, in several protocols; the table names one.
"""

import ast
import re
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
SHOWN: Final = {
    1: "channels/test_cmpp.py::test_gotcha_1_a_long_text_reaches_a_handset_and_every_part_is_reported",
    2: "channels/test_dialects.py::test_the_dialect_is_learned_from_a_pair_and_then_translates",
    3: "channels/test_smpp_words.py::test_gotcha_3_receipts_are_read_however_they_are_written",
    4: "channels/test_smpp_words.py::test_gotcha_4_a_receipt_in_ucs2_is_read",
    5: "channels/test_smpp_words.py::test_gotcha_5_parameters_go_before_the_text",
    6: "channels/test_smpp_words.py::test_gotcha_6_an_intermediate_notification_settles_nothing_whatever_its_word",
    7: "channels/test_smpp_words.py::test_gotcha_7_reports_are_asked_for_the_parts_the_upstream_reports_on",
    8: "channels/test_cmpp.py::test_gotcha_8_a_gateway_of_3_0_may_send_the_report_of_2_0",
    9: "channels/test_cmpp.py::test_gotcha_9_a_deliver_is_answered_with_its_own_id_once_it_is_stored",
    10: "wire/test_cmpp.py::test_the_ids_of_a_group_are_a_range_that_wraps_in_its_last_16_bits",
    11: "channels/test_cmpp.py::test_gotcha_11_an_id_is_unsigned_and_the_same_in_ack_and_report",
    12: "channels/test_smgp.py::test_gotcha_12_ids_with_nuls_and_other_octets_meet_their_reports",
    13: "channels/test_smgp.py::test_gotcha_13_every_layout_of_a_report_is_read",
    14: "channels/test_sgip.py::test_gotcha_14_reports_come_over_the_smgs_own_connection_and_are_answered_once_stored",
    15: "channels/test_smgp.py::test_gotcha_15_a_proof_of_the_gateway_is_asked_for_only_where_it_is_wanted",
    16: "channels/test_smgp.py::test_gotcha_16_a_gateway_that_hashes_the_padded_name_is_logged_in_to",
    17: "channels/test_smgp.py::test_gotcha_17_an_account_is_spoken_to_in_the_layout_it_is_set_to",
    18: "channels/test_sgip.py::test_gotcha_18_octets_behind_an_unbind_resp_do_not_keep_us",
    19: "wire/test_cmpp.py::test_an_active_test_answered_by_an_active_test_keeps_the_session",
    20: "channels/test_smpp_words.py::test_gotcha_20_an_error_response_with_a_body_is_an_error_too",
    21: "channels/test_cmpp.py::test_gotcha_21_a_deliver_in_one_segment_with_the_login_response_is_heard",
    22: "wire/test_gotchas.py::test_their_enquire_link_is_always_answered",
    23: "wire/test_smpp_versions.py::test_a_3_3_peer_hears_no_parameters",
    24: "wire/test_gotchas.py::test_a_bind_resp_without_interface_version_is_enough",
    25: "channels/test_sessions.py::test_gotcha_25_an_empty_message_id_is_flagged",
    26: "channels/test_sgip.py::test_gotcha_26_88_pauses_the_channel_and_keeps_the_order",
    27: "channels/test_sgip.py::test_gotcha_27_no_more_than_thirty_two_wait_and_they_may_be_answered_in_any_order",
    28: "channels/test_sgip.py::test_gotcha_28_what_is_not_answered_in_time_is_unsure_and_never_sent_again",
    29: "channels/test_smpp_words.py::test_gotcha_29_gsm7_is_rewritten_where_data_coding_0_is_latin1",
    30: "channels/test_smpp_words.py::test_gotcha_30_ucs2_is_big_endian_unless_the_channel_says_little",
    31: "vocab/test_text.py::test_mislabelled_texts_are_recognised_when_sniffing_is_allowed",
    32: "channels/test_smpp_words.py::test_gotcha_32_a_surrogate_pair_is_one_character",
    33: "channels/test_cmpp.py::test_gotcha_33_parts_may_differ_in_msg_fmt_and_each_is_read_by_its_own",
    34: "channels/test_smpp_words.py::test_gotcha_34_a_part_carries_a_header_or_sar_parameters_never_both",
    35: "channels/test_smpp_words.py::test_gotcha_35_a_payload_travels_whole_and_leaves_short_message_empty",
    36: "channels/test_cmpp.py::test_gotcha_36_a_gateway_that_signs_is_sent_the_parts_of_the_signed_text_without_the_signature",
    37: "channels/test_cmpp.py::test_gotcha_37_ascii_is_counted_as_seventy_on_the_mainland",
    38: "channels/test_smgp.py::test_gotcha_38_texts_go_as_gbk_and_as_ucs2_where_gbk_would_need_four_octets",
    39: "channels/test_smpp_words.py::test_gotcha_39_numbers_are_written_as_the_channel_wants_them",
    40: "channels/test_smgp.py::test_gotcha_40_whatever_a_gateway_delivers_is_heard",
    41: "channels/test_sgip.py::test_gotcha_41_a_submit_is_as_long_as_the_document_says",
}


def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_gotcha_is_shown_by_a_test_that_exists() -> None:
    assert sorted(SHOWN) == list(range(1, 42))
    for shown in SHOWN.values():
        file, _, name = shown.partition("::")
        assert name in functions(file), shown


def test_a_number_in_a_test_s_name_is_one_of_the_list() -> None:
    for path in TESTS.rglob("test_*.py"):
        for number in re.findall(r"def test_gotcha_(\d+)_", path.read_text("utf-8")):
            assert int(number) in SHOWN
