#include "options.h"

#include <getopt.h>
#include <string.h>

#include "fail.h"

static const char USAGE[] =
    "usage: w2v-edge-bench BUNDLE --audio FILE.wav --report FILE.json [options]\n"
    "\n"
    "Measures the latency of BUNDLE on this device, without Python; `w2v-edge compare` reads the report.\n"
    "\n"
    "  --audio FILE.wav             speech to run on, 16-bit or float, at the model's rate\n"
    "  --report, -o FILE.json       where to write the report\n"
    "  --seconds FLOAT[,...]        lengths of audio (1,10)\n"
    "  --graph encoder|tokenizer[,...]  graphs to measure (the encoder, and the tokenizer if there is one)\n"
    "  --threads INTEGER[,...]      numbers of threads per operator (one per usable core)\n"
    "  --batch INTEGER[,...]        batch sizes (1)\n"
    "  --time SECONDS               time limit; at least five rounds are run (40)\n"
    "  --rounds INTEGER             number of processes per case, regardless of --time\n"
    "  --min-steady-seconds FLOAT   duration of the steady state in each process (0.5)\n"
    "  --library FILE.so            onnxruntime (libonnxruntime.so.1 or libonnxruntime.so, beside this program)\n";

static const char *const GRAPHS[] = {"encoder", "tokenizer"};

static void usage(FILE *stream, int code) {
    fputs(USAGE, stream);
    exit(code);
}

static double number(const char *option, const char *text, double least, double most, int whole) {
    char *end;
    double found = strtod(text, &end);
    if (end == text || *end || !(found >= least && found <= most) || (whole && found != (double)(long)found))
        fail("--%s: found '%.40s', expected a%s number from %g to %g", option, text, whole ? " whole" : "", least,
             most);
    return found;
}

static size_t numbers(const char *option, char *text, double *to, double least, double most, int whole) {
    size_t count = 0;
    for (char *rest, *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        double found = number(option, word, least, most, whole);
        size_t same = 0;
        while (same < count && to[same] != found) same++;
        if (same < count) continue;
        if (count == MAX_LISTED) fail("--%s: expected at most %d values", option, MAX_LISTED);
        to[count++] = found;
    }
    if (!count) fail("--%s: found no value", option);
    return count;
}

static size_t graphs(char *text, const char **to) {
    int asked[2] = {0};
    for (char *rest, *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        int index = !strcmp(word, GRAPHS[0]) ? 0 : !strcmp(word, GRAPHS[1]) ? 1 : -1;
        if (index < 0)
            fail("--graph: found '%.40s', this program measures encoder and tokenizer; others: w2v-edge bench",
                 word);
        asked[index] = 1;
    }
    size_t count = 0;
    for (int i = 0; i < 2; i++)
        if (asked[i]) to[count++] = GRAPHS[i];
    if (!count) fail("--graph: found no value");
    return count;
}

static void check_report(const char *report) {
    size_t length = strlen(report);
    if (length < 6 || strcmp(report + length - 5, ".json"))
        fail("%s: expected the suffix .json; w2v-edge makes other formats of it", report);
}

Options read_options(int count, char **arguments) {
    static const struct option LONG[] = {
        {"audio", 1, NULL, 'a'},   {"report", 1, NULL, 'o'}, {"seconds", 1, NULL, 's'},
        {"graph", 1, NULL, 'g'},   {"threads", 1, NULL, 't'}, {"batch", 1, NULL, 'b'},
        {"time", 1, NULL, 'T'},    {"rounds", 1, NULL, 'r'}, {"min-steady-seconds", 1, NULL, 'm'},
        {"library", 1, NULL, 'l'}, {"help", 0, NULL, 'h'},   {0},
    };
    Options o = {.seconds = {1, 10}, .seconds_count = 2, .batches = {1}, .batch_count = 1};
    o.steady_s = 0.5;
    o.time_s = 40;
    for (int found; (found = getopt_long(count, arguments, "o:h", LONG, NULL)) >= 0;) switch (found) {
            case 'a': o.audio = optarg; break;
            case 'o': o.report = optarg; break;
            case 'l': o.library = optarg; break;
            case 's': o.seconds_count = numbers("seconds", optarg, o.seconds, 0.001, 3600, 0); break;
            case 'g': o.graph_count = graphs(optarg, o.graphs); break;
            case 't': o.threads_count = numbers("threads", optarg, o.threads, 1, 1024, 1); break;
            case 'b': o.batch_count = numbers("batch", optarg, o.batches, 1, 1e6, 1); break;
            case 'T': o.time_s = number("time", optarg, 0, 86400, 0); break;
            case 'r': o.rounds = number("rounds", optarg, 3, 10000, 1); break;
            case 'm': o.steady_s = number("min-steady-seconds", optarg, 0.01, 3600, 0); break;
            case 'h': usage(stdout, 0); break;
            default: usage(stderr, 2);
        }
    if (optind != count - 1 || !o.audio || !o.report) usage(stderr, 2);
    o.bundle = arguments[optind];
    check_report(o.report);
    return o;
}
