/* Reads JSON text into values in order, each followed by the values within it; writes strings. */
#ifndef W2V_JSON_H
#define W2V_JSON_H

#include <stddef.h>
#include <stdio.h>

typedef enum { JSON_NULL, JSON_TRUE, JSON_FALSE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

/* Keys and strings point into the text, without quotes, with their escapes. */
typedef struct {
    JsonKind kind;
    const char *key;
    size_t key_length;
    const char *text;
    size_t length;
    double number;
    size_t span; /* this value and all within it: the next one is at value + span */
} JsonValue;

/* The text must end with a zero byte and outlive the values; exits if it is not JSON. */
JsonValue *read_json(const char *text, size_t size, const char *what);

/* Returns the member of an object, NULL if there is none. */
const JsonValue *json_member(const JsonValue *object, const char *key);

/* Loops over the members of an object or the elements of an array. */
#define EACH_WITHIN(item, value) \
    const JsonValue *item = (value) + 1; item < (value) + (value)->span; item += item->span

int json_equals(const JsonValue *string, const char *text);

/* Writes a string in quotes; bytes that are not UTF-8 become U+FFFD. */
void write_json_string(FILE *stream, const char *text);

#endif
