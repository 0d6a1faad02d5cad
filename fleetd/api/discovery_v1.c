/* /fleet/v1/discovery: fleet's API in the format of Google's discovery documents, for client generators. */
#include "fleetd/api/fleet_v1.h"

/* clang-format off */
#define STRING(name) "\"" name "\":{\"type\":\"string\"}"
#define STATE(name) "\"" name "\":{\"type\":\"string\",\"enum\":[\"inactive\",\"loaded\",\"launched\"]}"
#define ARRAY(name, of) "\"" name "\":{\"type\":\"array\",\"items\":{\"$ref\":\"" of "\"}}"
#define SCHEMA(id, properties) \
        "\"" id "\":{\"id\":\"" id "\",\"type\":\"object\"," \
        "\"properties\":{" properties "}}"
#define IN_QUERY(name) "\"" name "\":{\"type\":\"string\",\"location\":\"query\"}"
#define METHOD(name, id, method, path, rest) \
        "\"" name "\":{\"id\":\"" id "\",\"httpMethod\":\"" method "\",\"path\":\"" path "\"" rest "}"
#define UNIT_NAME \
        ",\"parameters\":{\"unitName\":{\"type\":\"string\",\"location\":\"path\",\"required\":true}}," \
        "\"parameterOrder\":[\"unitName\"]"
#define ANSWERS(schema) ",\"response\":{\"$ref\":\"" schema "\"}"
#define PAGED ",\"parameters\":{" IN_QUERY("nextPageToken") "}"

static const char document[] =
        "{\"kind\":\"discovery#restDescription\",\"discoveryVersion\":\"v1\",\"id\":\"fleet:v1\","
        "\"name\":\"schema\",\"version\":\"v1\","
        "\"title\":\"fleet API\",\"description\":\"\",\"documentationLink\":\"man:fleet-api(7)\","
        "\"protocol\":\"rest\","
        "\"icons\":{\"x16\":\"\",\"x32\":\"\"},\"labels\":[],\"baseUrl\":\"$ENDPOINT/fleet/v1/\","
        "\"basePath\":\"/fleet/v1/\","
        "\"rootUrl\":\"$ENDPOINT/\",\"servicePath\":\"fleet/v1/\",\"batchPath\":\"batch\","
        "\"parameters\":{},\"auth\":{},"
        "\"schemas\":{"
        SCHEMA("Machine", STRING("id") "," STRING("primaryIP")
               ",\"metadata\":{\"type\":\"object\",\"properties\":{},"
               "\"additionalProperties\":{\"type\":\"string\"}}") ","
        SCHEMA("MachinePage", ARRAY("machines", "Machine") "," STRING("nextPageToken")) ","
        SCHEMA("UnitOption", STRING("section") "," STRING("name") "," STRING("value")) ","
        SCHEMA("Unit", STRING("name") "," ARRAY("options", "UnitOption") "," STATE("desiredState") ","
               STATE("currentState") ",\"machineID\":{\"type\":\"string\",\"required\":true}") ","
        SCHEMA("UnitPage", ARRAY("units", "Unit") "," STRING("nextPageToken")) ","
        SCHEMA("UnitState", STRING("name") "," STRING("hash") "," STRING("machineID") ","
               STRING("systemdLoadState") "," STRING("systemdActiveState") "," STRING("systemdSubState")) ","
        SCHEMA("UnitStatePage", ARRAY("states", "UnitState") "," STRING("nextPageToken"))
        "},\"resources\":{"
        "\"Machines\":{\"methods\":{"
        METHOD("List", "fleet.Machine.List", "GET", "machines",
               ",\"description\":\"The machines that are up or away.\"" PAGED ANSWERS("MachinePage"))
        "}},\"Units\":{\"methods\":{"
        METHOD("List", "fleet.Unit.List", "GET", "units",
               ",\"description\":\"All units.\"" PAGED ANSWERS("UnitPage")) ","
        METHOD("Get", "fleet.Unit.Get", "GET", "units/{unitName}",
               ",\"description\":\"One unit.\"" UNIT_NAME ANSWERS("Unit")) ","
        METHOD("Delete", "fleet.Unit.Delete", "DELETE", "units/{unitName}",
               ",\"description\":\"Destroys a unit.\"" UNIT_NAME) ","
        METHOD("Set", "fleet.Unit.Set", "PUT", "units/{unitName}",
               ",\"description\":\"Creates or replaces a unit, or sets its target state.\""
               UNIT_NAME ",\"request\":{\"$ref\":\"Unit\"}")
        "}},\"UnitState\":{\"methods\":{"
        METHOD("Get", "fleet.UnitState.Get", "GET", "state/{unitName}",
               ",\"description\":\"The state of one unit.\"" UNIT_NAME ANSWERS("UnitState")) ","
        METHOD("List", "fleet.UnitState.List", "GET", "state",
               ",\"description\":\"The states of units on their machines.\",\"parameters\":{"
               IN_QUERY("nextPageToken") "," IN_QUERY("unitName") "," IN_QUERY("machineID") "}"
               ANSWERS("UnitStatePage"))
        "}}}}";
/* clang-format on */

unsigned discovery_handle(Request *request, Error *err) {
        if (method_is(request, "GET"))
                return request_answer(request, 200, "application/json", NULL, document, sizeof(document) - 1);
        return error_set(err, 400, "only HTTP GET supported against this resource");
}
