/* A remedy in C: removes rotated logs. docs/remedies/other-languages.md has the commands that make a component of it.
 *
 * `remedy.h` is written by `wit-bindgen c` from the contract, with the contract's own comments. A call into the host that can be
 * denied answers true and fills its result, or false and fills the denial. What the remedy may do is in remedy.toml, not here. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remedy.h"

typedef theriac_remedy_types_denial_t denial_t;
typedef theriac_remedy_files_own_dir_t dir_t;
typedef theriac_remedy_files_own_entry_t entry_t;

/* Files that the grant `logs` lets through. */
struct logs {
    entry_t *entries;
    size_t count;
};

/* Standard output is the remedy's log. Unlike a program a remedy never exits, and nothing would write out what stdio still holds. */
__attribute__((constructor)) static void print_line_by_line(void)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}

/* Out of memory there is nothing to be done but to end, which changes nothing on the host. */
static void *allocated(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

/* Text that the bindings free once the host has read it; so it is never a literal. */
static remedy_string_t text(const char *format, ...)
{
    char line[256];
    remedy_string_t text;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    remedy_string_dup(&text, line);
    return text;
}

static const char *word_of(const denial_t *denial)
{
    switch (denial->tag) {
    case THERIAC_REMEDY_TYPES_DENIAL_NOT_GRANTED:
        return "not-granted";
    case THERIAC_REMEDY_TYPES_DENIAL_OFF_PLAN:
        return "off-plan";
    case THERIAC_REMEDY_TYPES_DENIAL_OVER_BUDGET:
        return "over-budget";
    case THERIAC_REMEDY_TYPES_DENIAL_STALE_TARGET:
        return "stale-target";
    case THERIAC_REMEDY_TYPES_DENIAL_CONFLICT:
        return "conflict";
    case THERIAC_REMEDY_TYPES_DENIAL_UNAVAILABLE:
        return "unavailable";
    case THERIAC_REMEDY_TYPES_DENIAL_FAILED:
        return "failed";
    }
    abort();
}

static bool open_dir(const char *label, dir_t *dir, denial_t *denial)
{
    remedy_string_t name;
    /* The host only reads it, so a literal will do here. */
    remedy_string_set(&name, label);
    return theriac_remedy_files_static_dir_open(&name, dir, denial);
}

static void keep(struct logs *logs, theriac_remedy_files_list_own_entry_t *found)
{
    if (found->len == 0)
        return;
    logs->entries = allocated(realloc(logs->entries, (logs->count + found->len) * sizeof(entry_t)));
    memcpy(logs->entries + logs->count, found->ptr, found->len * sizeof(entry_t));
    logs->count += found->len;
    /* The array; its handles live on in `logs`. */
    theriac_remedy_files_list_own_entry_free(found);
}

/* All of them, page by page, oldest first. */
static bool list_logs(struct logs *logs, denial_t *denial)
{
    theriac_remedy_files_filter_t any = { .order = THERIAC_REMEDY_FILES_ORDER_OLDEST_FIRST };
    theriac_remedy_files_page_t page = { .next = { .is_some = true, .val = 0 } };
    bool listed = true;
    dir_t dir;
    *logs = (struct logs){ 0 };
    if (!open_dir("logs", &dir, denial))
        return false;
    while (listed && page.next.is_some) {
        listed = theriac_remedy_files_method_dir_list(theriac_remedy_files_borrow_dir(dir), &any, page.next.val, &page, denial);
        if (listed)
            keep(logs, &page.entries);
    }
    theriac_remedy_files_dir_drop_own(dir);
    return listed;
}

static void close_logs(struct logs *logs)
{
    for (size_t i = 0; i < logs->count; i++)
        theriac_remedy_files_entry_drop_own(logs->entries[i]);
    free(logs->entries);
}

static void print_removed(entry_t entry, uint64_t bytes)
{
    remedy_string_t name;
    theriac_remedy_files_method_entry_name(theriac_remedy_files_borrow_entry(entry), &name);
    printf("removed %.*s: %" PRIu64 " bytes\n", (int)name.len, (const char *)name.ptr, bytes);
    remedy_string_free(&name);
}

static bool remove_logs(remedy_report_t *report, denial_t *denial)
{
    struct logs logs;
    uint64_t bytes, freed = 0;
    size_t removed = 0;
    if (!list_logs(&logs, denial))
        return false;
    for (size_t i = 0; i < logs.count; i++) {
        if (theriac_remedy_files_method_entry_remove(theriac_remedy_files_borrow_entry(logs.entries[i]), &bytes, denial)) {
            print_removed(logs.entries[i], bytes);
            freed += bytes;
            removed++;
            continue;
        }
        switch (denial->tag) {
        case THERIAC_REMEDY_TYPES_DENIAL_STALE_TARGET:
        case THERIAC_REMEDY_TYPES_DENIAL_CONFLICT:
            /* Rotated once more since it was listed, or in use: the others may do. */
            printf("left one: %s\n", word_of(denial));
            theriac_remedy_types_denial_free(denial);
            continue;
        default:
            /* No reason to go on. The host learns which it was, and the bindings free it. */
            return false;
        }
    }
    close_logs(&logs);
    if (removed == 0) {
        report->tag = THERIAC_REMEDY_FAULT_REPORT_NOTHING_TO_DO;
        report->val.nothing_to_do = text("there is no rotated log to remove");
    } else {
        report->tag = THERIAC_REMEDY_FAULT_REPORT_TREATED;
        report->val.treated = text("removed %zu files, %" PRIu64 " bytes", removed, freed);
    }
    return true;
}

static bool was_not_granted(const char *what, bool done, denial_t *denial)
{
    bool not_granted = !done && denial->tag == THERIAC_REMEDY_TYPES_DENIAL_NOT_GRANTED;
    printf("%s: %s\n", what, done ? "done" : word_of(denial));
    if (!done)
        theriac_remedy_types_denial_free(denial);
    return not_granted;
}

/* For the tests: everything here is a call that remedy.toml does not grant. */
static bool try_others(remedy_report_t *report, denial_t *denial)
{
    struct logs logs;
    if (!list_logs(&logs, denial))
        return false;
    if (logs.count == 0)
        abort();
    theriac_remedy_files_borrow_entry_t entry = theriac_remedy_files_borrow_entry(logs.entries[0]);
    remedy_list_u8_t content = { .ptr = allocated(malloc(3)), .len = 3 };
    memcpy(content.ptr, "abc", content.len);
    uint64_t bytes;
    dir_t dir;

    bool label = was_not_granted("another label", open_dir("secrets", &dir, denial), denial);
    bool verb = was_not_granted(
        "another verb", theriac_remedy_files_method_entry_truncate(entry, &bytes, denial), denial);
    bool with_content = was_not_granted(
        "a verb with content", theriac_remedy_files_method_entry_append(entry, &content, &bytes, denial), denial);

    free(content.ptr);
    close_logs(&logs);
    if (label && verb && with_content) {
        report->tag = THERIAC_REMEDY_FAULT_REPORT_GAVE_UP;
        report->val.gave_up = text("3 calls, none of them granted");
    } else {
        report->tag = THERIAC_REMEDY_FAULT_REPORT_TREATED;
        report->val.treated = text("leak: the log says which");
    }
    return true;
}

static bool is(const remedy_string_t *text, const char *word)
{
    return text->len == strlen(word) && memcmp(text->ptr, word, text->len) == 0;
}

static bool is_chosen(const remedy_input_t *fault, const char *name, const char *choice)
{
    for (size_t i = 0; i < fault->params.len; i++) {
        const theriac_remedy_fault_param_t *param = &fault->params.ptr[i];
        if (is(&param->name, name))
            return param->value.tag == THERIAC_REMEDY_FAULT_VALUE_CHOICE && is(&param->value.val.choice, choice);
    }
    return false;
}

bool exports_remedy_remediate(remedy_input_t *fault, remedy_report_t *report, remedy_denial_t *denial)
{
    bool others = is_chosen(fault, "attempt", "others");
    remedy_input_free(fault);
    return others ? try_others(report, denial) : remove_logs(report, denial);
}

bool exports_remedy_check(remedy_input_t *fault, remedy_opinion_t *opinion, remedy_denial_t *denial)
{
    struct logs logs;
    remedy_input_free(fault);
    if (!list_logs(&logs, denial))
        return false;
    close_logs(&logs);
    if (logs.count == 0) {
        opinion->tag = THERIAC_REMEDY_FAULT_OPINION_SATISFIED;
    } else {
        opinion->tag = THERIAC_REMEDY_FAULT_OPINION_NOT_IMPROVED;
        opinion->val.not_improved = text("%zu files are left", logs.count);
    }
    return true;
}
