/* A client of sanwsk.sys in the kernel that does one thing many times, for the bench to time. */
#include "../../tests/drivers/kernel_client.h"

/* As the bench has it. */
#define COUNT 2000

static PAIR Session;
static OP Posted;

/* A session over which messages of up to LENGTH bytes go. */
BEHAVIOUR(connects) {
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Session, TRUE));
    TRY(Negotiated(&Session));
    return Make(&Posted);
}

BEHAVIOUR(closes) {
    UNREFERENCED_PARAMETER(Call);
    Free(&Posted);
    return Closed(&Session);
}

BEHAVIOUR(queries_addresses) {
    SANWSK_ADDRESSES_REPLY Addresses;
    ULONG At;
    UNREFERENCED_PARAMETER(Call);
    for (At = 0; At < COUNT; At++)
        TRY(San.QueryAddresses(Session.Client, Session.Near, &Addresses));
    return STATUS_SUCCESS;
}

/* Receives that pend, and are cancelled. */
BEHAVIOUR(posts_and_cancels) {
    ULONG At;
    UNREFERENCED_PARAMETER(Call);
    for (At = 0; At < COUNT; At++) {
        NTSTATUS Begun = San.Receive(Session.Client, Posted.Operation, Session.Near, Session.To, 0, LENGTH, 0);
        CHECK(Begun == STATUS_PENDING);
        TRY(San.CancelOperation(Posted.Operation));
        CHECK(Wait(&Posted, Begun) == STATUS_CANCELLED);
    }
    return STATUS_SUCCESS;
}

/* Messages of so many bytes, one after the other, each received before the next. */
static NTSTATUS Messages(ULONG Length) {
    ULONG At;
    for (At = 0; At < COUNT; At++) {
        NTSTATUS Receive = San.Receive(Session.Client, Posted.Operation, Session.Far, Session.To, 0, LENGTH, 0);
        TRY(Wait(&Session.One, San.Send(Session.Client, Session.One.Operation, Session.Near, Session.From, 0, Length)));
        TRY(Wait(&Posted, Receive));
        CHECK(Posted.Information == Length);
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(sends_small_messages) {
    UNREFERENCED_PARAMETER(Call);
    return Messages(64);
}

BEHAVIOUR(sends_long_messages) {
    UNREFERENCED_PARAMETER(Call);
    return Messages(1 << 16);
}

static const ROW Rows[] = {
    ROW_OF(connects), ROW_OF(closes), ROW_OF(queries_addresses), ROW_OF(posts_and_cancels),
    ROW_OF(sends_small_messages), ROW_OF(sends_long_messages), {NULL, NULL},
};
