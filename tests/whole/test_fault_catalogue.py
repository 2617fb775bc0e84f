"""Every fault we know of, and the test that shows what a user sees of it: none without, none that is not there."""

import ast
import re
from pathlib import Path

import pytest

# The fault -> tests, or in brackets why nothing here shows it.
FAULTS = {
    # Network
    "N1 the name of a host does not resolve": "test_a_host_that_has_no_address_stops_the_fetch_and_is_named",
    "N2 connections are refused": "test_an_unreachable_provider_exits_5_and_names_the_variable",
    "N3 connecting hangs": "test_a_host_that_does_not_accept_is_given_up_and_the_chunk_stays_open",
    "N4 TLS fails": "test_a_certificate_nobody_vouches_for_ends_the_fetch_in_one_sentence_and_is_not_retried",
    "N5 reset before the answer": "test_a_connection_reset_before_the_answer_is_asked_again",
    "N6 stale keep-alive": "test_a_connection_that_went_stale_between_two_chunks_costs_nothing",
    "N7 silence in headers or body": "test_a_server_that_falls_silent_is_asked_again",
    "N8 a trickle": "test_a_server_that_trickles_is_cut_off_at_the_deadline_and_asked_again",
    "N9 the network is gone": "test_a_provider_that_is_gone_for_a_while_is_waited_for_and_no_chunk_is_burned",
    "N10 proxy and netrc of the environment": "test_netrc_and_proxies_of_the_environment_get_no_key_and_change_none",
    # HTTP
    "H1 body shorter than its length": "test_a_damaged_answer_is_never_staged_and_asked_again",
    "H2 chunked body cut": "test_a_damaged_answer_is_never_staged_and_asked_again",
    "H3 no framing": "test_a_damaged_answer_is_never_staged_and_asked_again",
    "H4 gzip stream cut": "test_a_damaged_answer_is_never_staged_and_asked_again",
    "H5 gzip trailer wrong": "test_a_damaged_answer_is_never_staged_and_asked_again",
    "H6 429 with any Retry-After": "test_a_429_with_any_retry_after_is_waited_out",
    "H7 429 with a reset alone": "test_a_quota_that_resets_in_a_second_of_the_servers_clock_is_not_waited_for_by_ours",
    "H8 a burst of 5xx": "test_a_burst_of_server_errors_is_ridden_out test_eight_in_a_row_in_trouble_open_it",
    "H9 401 and 403": (
        "test_a_wrong_key_exits_4_after_one_request_naming_the_variable "
        "test_a_403_for_one_feed_is_recorded_as_not_entitled"
    ),
    "H10 a redirect": "test_a_redirect_with_a_bomb_for_a_body_is_one_sentence_and_is_not_followed",
    "H11 HTML with status 200": "test_a_captive_portal_stops_the_endpoint_and_every_chunk_stays_open",
    "H12 a decompression bomb": (
        "test_a_decompression_bomb_is_a_failed_chunk_and_no_memory "
        "test_an_encoding_nobody_asked_for_is_a_failed_chunk_that_names_it"
    ),
    "H13 headers beyond bounds": "test_headers_beyond_all_bounds_stop_the_fetch_after_one_request",
    "H14 bytes after the body": "test_bytes_after_an_answer_do_not_reach_the_next_chunk",
    "H15 two lengths": "test_two_lengths_that_contradict_each_other_stop_the_fetch_after_one_request",
    # Payload
    "P1 the beginning of a page": "test_no_beginning_of_a_page_is_a_page",
    "P2 malformed JSON": (
        "test_a_malformed_body_is_asked_again_and_kept_for_a_person_to_look_at "
        "test_a_byte_order_mark_before_the_page_is_asked_again"
    ),
    "P3 integers too large": (
        "test_large_counts_keep_every_digit test_a_field_of_the_wrong_kind_fails_the_chunk_and_names_field_and_symbol"
    ),
    "P4 null, missing, new and renamed fields": (
        "test_a_renamed_field_fails_the_chunk_and_names_the_one_that_is_missing "
        "test_a_null_average_stays_null_and_is_never_zero test_fields_nobody_knows_are_named_once_in_the_summary"
    ),
    "P5 text for a number": "test_a_field_of_the_wrong_kind_fails_the_chunk_and_names_field_and_symbol",
    "P6 rows nobody asked for": (
        "test_a_row_of_another_symbol_is_not_staged_and_named test_a_row_outside_the_window_is_not_staged_and_named"
    ),
    "P7 rows twice": (
        "test_rows_that_come_twice_are_staged_once "
        "test_two_rows_of_one_instant_that_differ_are_a_conflict_and_neither_is_staged"
    ),
    "P8 rows out of order": "test_rows_out_of_order_are_staged_in_order",
    "P9 an error with status 200": "test_an_error_with_status_200_is_told_and_is_not_taken_for_no_data",
    # What providers mean
    "V1 tokens in a circle": "test_page_tokens_that_go_in_a_circle_end_with_a_reason",
    "V2 empty pages with a token": "test_twenty_empty_pages_are_followed_and_no_more",
    "V3 too many pages": "test_a_chunk_of_more_pages_than_the_cap_is_capped_and_said",
    "V4 a next_url that leads elsewhere": (
        "test_an_address_that_could_lead_elsewhere_is_refused test_there_are_28_addresses"
    ),
    "V5 a token that expired": "test_a_page_token_that_expired_begins_the_chunk_anew_once",
    "V6 a full page without a token": "test_a_full_page_that_says_it_is_the_last_is_asked_again_in_halves",
    "V7 no data today": "test_no_data_today_is_asked_again_tomorrow_and_never_once_it_is_history",
    "V8 renamed, delisted, adjusted": (
        "test_a_delisted_symbol_costs_that_symbol_alone test_an_adjusted_series_whose_base_has_moved_is_fetched_whole"
    ),
    "V9 one bad symbol among many": (
        "test_a_refused_chunk_comes_back_as_halves_until_one_symbol_is_left "
        "test_a_request_is_never_cut_because_of_limits_or_trouble"
    ),
    "V10 a chain over several pages": (
        "test_a_chain_is_staged_whole_or_not_at_all test_a_capture_that_a_run_left_open_is_lost_and_never_completed "
        "test_a_chain_over_several_pages_is_of_one_moment_or_begun_again"
    ),
    "V11 a host under another name": "test_the_configured_base_may_stand_in_next_url",
    # Processes
    "W1 a worker dies": (
        "test_a_worker_that_is_killed_costs_nothing_but_its_own_chunks test_whatever_is_killed_every_row_is_there_once"
    ),
    "W2 a chunk that kills its worker": (
        "test_a_chunk_whose_worker_dies_is_retried_then_runs_alone_then_gives_up "
        "test_deaths_are_counted_over_runs_until_the_chunk_is_had"
    ),
    "W3 a worker hangs": "test_workers_that_hang_are_killed_and_their_chunks_asked_again",
    "W4 the supervisor dies": "test_a_killed_supervisor_takes_its_workers_along",
    "W5 the fork server dies": "test_a_fetch_outlives_its_fork_server_and_a_worker",
    "W6 Ctrl-C to the group": "test_ctrl_c_in_a_terminal_ends_every_process_and_the_last_line_continues",
    "W7 SIGTERM to the main process": "test_sigterm_to_the_main_process_alone_leaves_no_orphan",
    "W8 fork with threads": "test_a_preloaded_worker_holds_no_database_and_no_command_line",
    "W9 no memory": (
        "test_a_worker_without_memory_ends_and_its_slot_goes_on "
        "test_a_page_for_which_there_is_no_memory_is_not_called_malformed"
    ),
    "W10 no more open files": (
        "test_a_run_that_needs_more_open_files_than_it_may_have_is_refused "
        "test_a_process_that_may_open_no_more_files_blames_nobody_and_names_the_cure"
    ),
    "W11 stdout closed": "test_a_reader_that_goes_away_ends_a_command_quietly",
    "W12 a slot that only dies": "test_workers_that_die_at_once_break_the_pool_naming_the_exit_code",
    # Disk
    "D1 no space while staging": (
        "test_a_fetch_that_fills_the_disk_stops_in_one_sentence_and_the_same_command_continues"
    ),
    "D2 no space while loading": "test_a_load_that_fills_the_disk_keeps_whole_batches_and_the_same_command_continues",
    "D3 a sync that fails": "test_a_command_whose_writes_fail_leaves_what_the_same_command_completes",
    "D4 a write that fails": "test_a_command_whose_writes_fail_leaves_what_the_same_command_completes",
    "D5 power loss": "test_no_state_claims_a_file_that_is_not_there test_the_same_commands_complete_from_any_state",
    "D6 not writable": "test_a_disk_that_became_read_only_is_named_before_anything_is_asked",
    "D7 no inodes": "test_a_fetch_that_fills_the_disk_stops_in_one_sentence_and_the_same_command_continues",
    "D8 a staged file changed": (
        "test_a_deleted_file_is_noticed_and_asked_again "
        "test_a_damaged_file_is_named_at_load_and_its_chunk_is_due_at_the_next_fetch"
    ),
    # Manifest
    "M1 killed at a write": "test_a_command_whose_writes_fail_leaves_what_the_same_command_completes",
    "M2 lost or damaged": "test_a_lost_manifest_is_rebuilt_and_nothing_is_loaded_twice_or_asked_again",
    "M3 of a newer version": "test_a_newer_manifest_is_refused_by_version",
    "M4 of another question": "test_a_longer_window_and_more_symbols_ask_only_for_what_is_missing",
    "M5 a second writer": "test_a_second_fetch_on_the_same_staging_directory_is_told_who_holds_it",
    "M6 a copied directory": "test_a_copied_staging_directory_works_as_its_own",
    # Parquet
    "Q1 no whole file": "test_a_staged_file_that_was_touched_is_named_and_none_of_it_is_loaded",
    "Q2 a bit of a page": "test_a_staged_file_that_was_touched_is_named_and_none_of_it_is_loaded",
    "Q3 a bit of the footer": "test_a_staged_file_that_was_touched_is_named_and_none_of_it_is_loaded",
    "Q4 another chunk's file": "test_a_staged_file_that_was_touched_is_named_and_none_of_it_is_loaded",
    "Q5 files of different schemas": (
        "test_files_of_a_newer_schema_are_refused_by_name test_columns_in_another_order_still_load_by_name"
    ),
    "Q6 a row bomb": "test_a_staged_file_that_was_touched_is_named_and_none_of_it_is_loaded",
    "Q7 a path that reads as a pattern": "test_a_staging_directory_that_reads_as_a_pattern_is_refused",
    # DuckDB
    "K1 killed in a transaction": "test_a_killed_loader_leaves_whole_batches",
    "K2 killed at creation": "test_a_loader_killed_while_it_creates_the_database_leaves_none",
    "K3 a damaged log": ("test_a_damaged_write_ahead_log_is_explained_set_aside_and_what_it_held_is_loaded_again"),
    "K4 locked by another": "test_a_held_database_exits_75_naming_the_holder",
    "K5 an invalidated instance": "test_the_one_file_a_database_cannot_bear_is_set_aside_and_named",
    "K6 a key twice": "test_every_row_is_the_one_that_was_answered_last",
    "K7 no memory for a batch": "test_a_batch_too_large_for_the_memory_is_loaded_in_halves",
    "K8 another schema": "test_a_newer_database_is_refused test_extra_columns_of_the_user_survive",
    "K9 too little disk for the database": (
        "test_a_load_that_fills_the_disk_keeps_whole_batches_and_the_same_command_continues "
        "test_a_load_that_will_not_fit_says_so_before_it_begins"
    ),
    # Clock
    "C1 a clock that jumps": "test_a_wall_clock_that_jumps_changes_no_row_and_no_wait",
    "C2 suspended": "test_rest_piles_up_no_permits",
    "C3 a clock that is off": "test_a_user_whose_clock_is_ten_minutes_off_has_the_same_rows_as_any_other",
    "C4 midnights, leap days, early closes": (
        "test_new_yorks_clock_is_the_time_zone_databases test_the_day_after_thanksgiving_closes_at_one"
    ),
    "C5 two files in one moment": "test_a_part_is_never_written_over",
    # Configuration
    "G1 keys that cannot be": "test_a_key_that_cannot_be_one_is_named_by_its_variable_before_anything_is_asked",
    "G2 a key revoked meanwhile": "test_a_key_revoked_in_the_middle_exits_4_and_a_new_key_completes",
    "G3 a misspelt word": "test_a_misspelt_word_exits_2_and_is_answered_with_the_nearest",
    "G4 a foreign base URL": "test_a_base_url_that_is_none_or_would_leak_exits_2_and_names_the_variable",
    "G5 keys others may read": "test_a_file_of_keys_that_others_may_read_is_refused_with_the_cure",
    "G6 a rate above the plan": "test_a_rate_above_the_plan_is_refused_learnt_from_and_said_once",
    # Operation
    "O1 two fetches": "test_a_second_fetch_is_told_who_holds_the_staging_directory",
    "O2 load beside fetch": "test_a_killed_fetch_continues_and_no_row_is_lost_or_doubled",
    "O3 two directories, one key": "test_two_fetches_with_one_key_share_one_rate",
    "O4 the wrong database": "test_a_database_of_other_staging_directories_is_taken_only_when_told",
    "O5 a deleted database": "test_reloading_into_an_empty_database_gives_equal_tables",
    "O6 files removed by hand": "test_a_deleted_file_is_noticed_and_asked_again",
    "O7 a timer that overlaps itself": "test_a_held_staging_directory_exits_75_naming_the_holder",
    "O8 an older tool": "test_a_newer_manifest_is_refused_by_version test_a_newer_database_is_refused",
    "O9 once as another user": "test_a_staging_directory_of_another_user_is_refused_and_its_owner_named",
}
# Of each letter there are as many as this.
NUMBERS = {"N": 10, "H": 15, "P": 9, "V": 11, "W": 12, "D": 8, "M": 6, "Q": 7, "K": 9, "C": 5, "G": 6, "O": 9}


def _tests() -> set[str]:
    found = set()
    for path in Path(__file__).parent.parent.rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        found |= {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"
        }
    return found


TESTS = _tests()


def test_no_fault_is_left_out() -> None:
    assert [fault.split()[0] for fault in FAULTS] == [
        f"{x}{n}" for x, most in NUMBERS.items() for n in range(1, most + 1)
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_a_test(fault: str) -> None:
    named = FAULTS[fault]
    if not re.fullmatch(r"\(.+\)", named):
        assert set(named.split()) <= TESTS, set(named.split()) - TESTS
