#include "json.h"

#include <string.h>

#include "fail.h"
#include "file.h"

enum { MAX_DEPTH = 64, MAX_VALUES = 1 << 20 };

typedef struct {
    const char *what;
    const char *at;
    JsonValue *values;
    size_t count, room;
} Reader;

static const char *const SPACE = " \t\r\n";

static void refuse(const Reader *reader, const char *expected) {
    fail("%s: damaged, not JSON (expected %s)", reader->what, expected);
}

static int takes(Reader *reader, const char *token) {
    reader->at += strspn(reader->at, SPACE);
    size_t length = strlen(token);
    if (strncmp(reader->at, token, length)) return 0;
    reader->at += length;
    return 1;
}

static size_t escape_length(const char *at) {
    if (at[1] == 'u') return strspn(at + 2, "0123456789abcdefABCDEF") >= 4 ? 6 : 0;
    return at[1] && strchr("\"\\/bfnrt", at[1]) ? 2 : 0;
}

static const char *string(Reader *reader, size_t *length) {
    if (!takes(reader, "\"")) refuse(reader, "a string");
    const char *begin = reader->at;
    while (*reader->at != '"') {
        size_t step = *reader->at == '\\' ? escape_length(reader->at) : (unsigned char)*reader->at >= ' ';
        if (!step) refuse(reader, "the end of a string");
        reader->at += step;
    }
    *length = (size_t)(reader->at++ - begin);
    return begin;
}

static size_t added(Reader *reader) {
    if (reader->count == reader->room) {
        if (reader->room == MAX_VALUES) fail("%s: damaged, more than %d values", reader->what, MAX_VALUES);
        reader->room = reader->room ? 2 * reader->room : 256;
        reader->values = realloc(reader->values, reader->room * sizeof *reader->values);
        if (!reader->values) fail("%s: no memory for %zu values", reader->what, reader->room);
    }
    reader->values[reader->count] = (JsonValue){0};
    return reader->count++;
}

static double number(Reader *reader) {
    size_t length = strspn(reader->at, "+-.0123456789eE");
    char *end;
    double found = length ? strtod(reader->at, &end) : 0;
    if (!length || end != reader->at + length || *reader->at == '+') refuse(reader, "a value");
    reader->at = end;
    return found;
}

static void value(Reader *reader, int depth);

/* Reads the rest of an array or object. */
static void within_brackets(Reader *reader, const char *end, int depth) {
    if (depth == MAX_DEPTH) refuse(reader, "less depth");
    if (takes(reader, end)) return;
    do {
        size_t length = 0;
        const char *key = *end == '}' ? string(reader, &length) : NULL;
        if (key && !takes(reader, ":")) refuse(reader, "':'");
        size_t index = reader->count;
        value(reader, depth + 1);
        reader->values[index].key = key;
        reader->values[index].key_length = length;
    } while (takes(reader, ","));
    if (!takes(reader, end)) refuse(reader, "',' or the end of a list");
}

static void value(Reader *reader, int depth) {
    size_t index = added(reader);
    JsonValue found = {.kind = JSON_NUMBER};
    if (takes(reader, "{")) {
        found.kind = JSON_OBJECT;
        within_brackets(reader, "}", depth);
    } else if (takes(reader, "[")) {
        found.kind = JSON_ARRAY;
        within_brackets(reader, "]", depth);
    } else if (*reader->at == '"') {
        found.kind = JSON_STRING;
        found.text = string(reader, &found.length);
    } else if (takes(reader, "null")) {
        found.kind = JSON_NULL;
    } else if (takes(reader, "true")) {
        found.kind = JSON_TRUE;
    } else if (takes(reader, "false")) {
        found.kind = JSON_FALSE;
    } else {
        found.number = number(reader);
    }
    found.span = reader->count - index;
    reader->values[index] = found;
}

JsonValue *read_json(const char *text, size_t size, const char *what) {
    Reader reader = {.what = what, .at = text};
    value(&reader, 0);
    takes(&reader, "");
    if (reader.at != text + size) refuse(&reader, "its end");
    return reader.values;
}

int json_equals(const JsonValue *string, const char *text) {
    return string->kind == JSON_STRING && string->length == strlen(text) &&
           !memcmp(string->text, text, string->length);
}

const JsonValue *json_member(const JsonValue *object, const char *key) {
    if (object->kind != JSON_OBJECT) return NULL;
    for (EACH_WITHIN(member, object))
        if (member->key_length == strlen(key) && !memcmp(member->key, key, member->key_length)) return member;
    return NULL;
}

/* Returns the length of a valid UTF-8 sequence of several bytes, otherwise 0. */
static size_t utf8_length(const unsigned char *at) {
    size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    int overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    int beyond = (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf4 && at[1] > 0x8f);
    return overlong || beyond ? 0 : length;
}

void write_json_string(FILE *stream, const char *text) {
    fputc('"', stream);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        size_t length = *at >= 0x80 ? utf8_length(at) : 1;
        if (!length) {
            fputs("\\ufffd", stream);
        } else if (*at < ' ' || *at == 0x7f) {
            fprintf(stream, "\\u%04x", *at);
        } else {
            if (*at == '"' || *at == '\\') fputc('\\', stream);
            fwrite(at, 1, length, stream);
            at += length - 1;
        }
    }
    fputc('"', stream);
}
