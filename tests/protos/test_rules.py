"""Each rule, proven on a contract that breaks it and nothing else."""

from pathlib import Path

import pytest

from tests.protos import rules
from tests.protos.world import compiled

SOUND = """
syntax = "proto3";
package bodega.shop.v1;
import "bodega/policy/v1/policy.proto";
import "buf/validate/validate.proto";
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/timestamp.proto";
import "google/type/money.proto";

// A shop.
service ShopService {
  // Opens a shop.
  rpc OpenShop(OpenShopRequest) returns (Shop) {
    option idempotency_level = IDEMPOTENT;
    option (google.api.http) = {post: "/api/v1/users/{shop.user_id}/shops" body: "*"};
    option (bodega.policy.v1.method) = {
      access: {owner: "shop.user_id" workloads: ["shop"]}
      deadline: {seconds: 2}
      priority: PRIORITY_NORMAL
      created: "/api/v1/shops/{shop_id}"
    };
  }
  // Shops.
  rpc ListShops(ListShopsRequest) returns (ListShopsResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (bodega.policy.v1.method) = {
      access: {public: true} deadline: {seconds: 2} priority: PRIORITY_SHEDDABLE
    };
  }
  // Watches a shop.
  rpc WatchShop(WatchShopRequest) returns (stream WatchShopResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (bodega.policy.v1.method) = {
      access: {public: true} deadline: {seconds: 3600} priority: PRIORITY_SHEDDABLE
      stream_cursor: "version" resume_field: "after_version"
    };
  }
}
// Asks for WatchShop.
message WatchShopRequest {
  // After which version.
  int64 after_version = 1 [(buf.validate.field).int64.gte = 0];
}
// A change of a shop.
message WatchShopResponse {
  // How many there were.
  int64 version = 1;
}
// A shop.
message Shop {
  // Where it stands.
  enum State {
    // Never sent.
    STATE_UNSPECIFIED = 0;
    // Open.
    STATE_OPEN = 1;
  }
  // Its id.
  string shop_id = 1 [(google.api.field_behavior) = OUTPUT_ONLY];
  // Whose it is.
  string user_id = 2 [(buf.validate.field).string.uuid = true];
  // Where it stands.
  State state = 3 [(google.api.field_behavior) = OUTPUT_ONLY];
  // Since when.
  google.protobuf.Timestamp create_time = 4 [(google.api.field_behavior) = OUTPUT_ONLY];
  // Where mail reaches it.
  string contact_email = 5 [debug_redact = true, (buf.validate.field).string.email = true];
}
// Asks for OpenShop.
message OpenShopRequest {
  // The shop.
  Shop shop = 1;
  // What is in the till.
  google.type.Money float_amount = 2 [(buf.validate.field).required = true];
  // What to set.
  google.protobuf.FieldMask update_mask = 3;
  // Whether it is hot.
  bool hot = 4;
  // Words.
  repeated string tags = 5 [(buf.validate.field).repeated.max_items = 3];
  // Makes a repeat harmless.
  string request_id = 6 [(buf.validate.field).string.min_len = 1];
}
// Asks for ListShops.
message ListShopsRequest {
  // How many.
  int32 page_size = 1 [(buf.validate.field).int32.gte = 0];
  // Which page.
  string page_token = 2 [(buf.validate.field).string.max_len = 9];
}
// Shops.
message ListShopsResponse {
  // Shops.
  repeated Shop shops = 1;
  // Next.
  string next_page_token = 2;
}
"""

SOUND_EVENTS = """
syntax = "proto3";
package bodega.shop.v1;
// A shop was opened.
message ShopOpened {
  // The shop.
  string shop_id = 1;
  // What it sells.
  repeated Ware wares = 2;
}
// A thing sold.
message Ware {
  // What.
  string name = 1;
}
// A till was emptied. Keyed by till box.
message TillEmptied {
  // The till.
  string till_box_id = 1;
}
"""

_POLICY_OF_LIST = """    option (bodega.policy.v1.method) = {
      access: {public: true} deadline: {seconds: 2} priority: PRIORITY_SHEDDABLE
    };
"""

_NUMBERED = rules.streams_are_numbered_and_resumed_by_fields_there_are
BROKEN = [
    (rules.every_method_has_a_policy, _POLICY_OF_LIST, "", "no bodega.policy"),
    (rules.every_method_has_a_policy, "access: {public: true}", "", "nobody has access"),
    (rules.every_method_has_a_policy, "access: {public: true}", "access: {}", "nobody has access"),
    (
        rules.every_method_has_a_policy,
        "deadline: {seconds: 2} priority: PRIORITY_SHED",
        "priority: PRIORITY_SHED",
        "deadline of 0",
    ),
    (rules.every_method_has_a_policy, "{seconds: 2} priority", "{seconds: 61} priority", "deadline of 61"),
    (rules.every_method_has_a_policy, "priority: PRIORITY_NORMAL", "", "no priority"),
    (
        rules.every_method_says_what_a_repeat_does,
        "    option idempotency_level = NO_SIDE_EFFECTS;\n",
        "",
        "ListShops",
    ),
    (rules.everything_has_a_comment, "  // Shops.\n  rpc", "  rpc", "ShopService.ListShops"),
    (rules.everything_has_a_comment, "// A shop.\nservice", "service", "v1.ShopService"),
    (rules.everything_has_a_comment, "    // Open.\n", "", "Shop.State.STATE_OPEN"),
    (rules.everything_has_a_comment, "  // Where it stands.\n  enum", "  enum", "v1.Shop.State:"),
    (rules.everything_has_a_comment, "  // Its id.\n", "", "Shop.shop_id"),
    (rules.everything_has_a_comment, "// Shops.\nmessage", "message", "v1.ListShopsResponse"),
    (rules.what_can_be_wrong_is_validated, " [(buf.validate.field).int32.gte = 0]", "", "page_size"),
    (rules.what_can_be_wrong_is_validated, " [(buf.validate.field).string.uuid = true]", "", "Shop.user_id"),
    (rules.what_can_be_wrong_is_validated, " [(buf.validate.field).required = true]", "", "float_amount"),
    (rules.what_can_be_wrong_is_validated, " [(buf.validate.field).repeated.max_items = 3]", "", "tags"),
    (
        rules.what_can_be_wrong_is_validated,
        "State state = 3 [(google.api.field_behavior) = OUTPUT_ONLY]",
        "State state = 3",
        "Shop.state",
    ),
    (rules.writes_carry_a_request_id, "string request_id", "string repeat_id", "a write without"),
    (rules.writes_carry_a_request_id, "string page_token = 2", "string request_id = 2", "a read with"),
    (rules.lists_come_in_pages, "int32 page_size", "int32 size", "no page_size"),
    (rules.lists_come_in_pages, "string page_token", "string token", "no page_token"),
    (rules.lists_come_in_pages, "string next_page_token", "string next", "no next_page_token"),
    (rules.secrets_are_marked, "debug_redact = true, ", "", "Shop.contact_email"),
    (rules.secrets_are_marked, "string tags", "string tokens_seen_token", "tokens_seen_token"),
    (rules.a_state_is_called_state, "State state =", "State status =", "Shop.status"),
    (rules.a_state_is_called_state, "STATE_UNSPECIFIED", "STATE_NONE", "Shop.State"),
    (rules.times_are_called_time, "create_time", "created_at", "created_at"),
    (rules.http_paths_are_ours, '"/api/v1/users', '"/v1/users', "not under"),
    (rules.http_paths_are_ours, "{shop.user_id}/shops", "{shop.owner_id}/shops", "no shop.owner_id"),
    (rules.owners_are_in_the_request, 'owner: "shop.user_id"', 'owner: "user_id"', "owner user_id"),
    (rules.owners_are_in_the_request, 'owner: "shop.user_id"', 'owner: "shop"', "owner shop is no string"),
    (rules.what_was_created_is_found_by_the_reply, "{shop_id}", "{id}", "the reply has no id"),
    (rules.what_was_created_is_found_by_the_reply, '"/api/v1/shops/{', '"/shops/{', "not under"),
    (_NUMBERED, 'cursor: "version"', 'cursor: "at"', "the reply has no at"),
    (_NUMBERED, 'field: "after_version"', 'field: "at"', "the request has no at"),
    (_NUMBERED, 'stream_cursor: "version" ', "", "numbers no message"),
    (_NUMBERED, "(stream WatchShop", "(WatchShop", "no stream"),
    (rules.workloads_are_services_of_the_house, '["shop"]', '["shop", "shopp"]', "no service shopp"),
]

BROKEN_EVENTS = [
    ("ShopOpened", "OpenShop", "not in the past tense"),
    ("string shop_id", "string id", "does not carry its shop_id"),
    ("string till_box_id", "string shop_id", "does not carry its till_box_id"),
]


def test_a_sound_contract_breaks_no_rule(tmp_path: Path) -> None:
    world = compiled(SOUND, tmp_path)
    assert [line for rule in rules.RULES for line in rule(world)] == []


def test_sound_events_break_no_rule(tmp_path: Path) -> None:
    world = compiled(SOUND_EVENTS, tmp_path, "bodega/shop/v1/shop_events.proto")
    assert [line for rule in rules.RULES for line in rule(world)] == []


@pytest.mark.parametrize(("rule", "sound", "broken", "said"), BROKEN)
def test_what_breaks_a_rule_is_told(
    tmp_path: Path, rule: rules.Rule, sound: str, broken: str, said: str
) -> None:
    assert sound in SOUND
    violations = list(rule(compiled(SOUND.replace(sound, broken), tmp_path)))
    assert violations, "the rule sees nothing wrong"
    assert any(said in line for line in violations), violations


@pytest.mark.parametrize(("sound", "broken", "said"), BROKEN_EVENTS)
def test_events_that_break_the_rule_are_told(tmp_path: Path, sound: str, broken: str, said: str) -> None:
    text = SOUND_EVENTS.replace(sound, broken)
    world = compiled(text, tmp_path, "bodega/shop/v1/shop_events.proto")
    [violation] = rules.events_say_what_happened_to_what(world)
    assert said in violation


def test_every_rule_is_proven() -> None:
    proven = {rule.__name__ for rule, *_ in BROKEN} | {rules.events_say_what_happened_to_what.__name__}
    assert proven == {rule.__name__ for rule in rules.RULES}
