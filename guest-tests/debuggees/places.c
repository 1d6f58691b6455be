/*
 * Threads at known places: each keeps a record of which functions it is in, at which level, and how far it has counted.
 * Says on its first line where the records are. A function has its number in the record as Place in
 * tests/debuggers/record.rs does.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>

enum place {
	SERVE = 1,
	DESCEND,
	WANDER,
	AWAIT_BYTE,
	AWAIT_SIGNAL,
	SLEEP_ON,
	SPIN,
	WALK,
	CLIMB
};

/* As Record in tests/debuggers/record.rs reads it: 64 words. */
struct record {
	uint64_t tid;
	uint64_t depth;
	uint64_t count; /* what the innermost function has counted to */
	uint64_t spare[5];
	uint64_t places[56]; /* the outermost first: number << 32 | level */
};

struct note {
	int level;
	double half;
	char name[16];
};

struct link {
	uint64_t value;
	struct link *next;
};

typedef void (*wait)(volatile struct record *record, int level);

static volatile struct record records[8];
static __thread uint64_t own;

/* What debuggers are asked for: see GLOBALS in tests/debuggers/native.rs. */
volatile struct {
	uint64_t first;
	uint64_t second;
} pair;
const char greeting[] = "frozen in time";
uint16_t primes[4] = { 2, 3, 5, 7 };
static struct link links[3] = { { 11, &links[1] }, { 22, &links[2] }, { 33, NULL } };
struct link *chain = links;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t signal_of_nobody = PTHREAD_COND_INITIALIZER;
static int silence[2];

/* No functions: they would be frames. */
#define ENTER(record, place, level)                                                              \
	do {                                                                                     \
		(record)->places[(record)->depth] = (uint64_t)(place) << 32 | (uint32_t)(level); \
		(record)->depth++;                                                               \
	} while (0)
#define LEAVE(record) ((record)->depth--)

static void await_byte(volatile struct record *record, int level)
{
	char byte;

	ENTER(record, AWAIT_BYTE, level);
	while (read(silence[0], &byte, 1) != 0)
		;
	LEAVE(record);
}

static void await_signal(volatile struct record *record, int level)
{
	ENTER(record, AWAIT_SIGNAL, level);
	pthread_mutex_lock(&mutex);
	for (;;)
		pthread_cond_wait(&signal_of_nobody, &mutex);
}

static void sleep_on(volatile struct record *record, int level)
{
	ENTER(record, SLEEP_ON, level);
	for (;;)
		sleep(1000);
}

static void spin(volatile struct record *record, int level)
{
	volatile uint64_t before = 0, after = 0;

	ENTER(record, SPIN, level);
	for (;;) {
		before++;
		pair.first++;
		record->count++;
		pair.second++;
		after++;
	}
}

static void climb(volatile struct record *record, int level)
{
	ENTER(record, CLIMB, level);
	if (level > 0)
		climb(record, level - 1);
	LEAVE(record);
}

static void walk(volatile struct record *record, int level)
{
	ENTER(record, WALK, level);
	for (;;) {
		for (int height = 0; height < 24; height++)
			climb(record, height);
	}
}

static void wander(volatile struct record *record, int level, wait wait);

static void descend(volatile struct record *record, int level, wait wait)
{
	struct note note = { level, level / 2.0, "" };

	ENTER(record, DESCEND, level);
	snprintf(note.name, sizeof(note.name), "level %d", level);
	if (level == 0)
		wait(record, level);
	else
		wander(record, level - 1, wait);
	LEAVE(record);
}

static void wander(volatile struct record *record, int level, wait wait)
{
	struct note note = { level, level / 2.0, "" };

	ENTER(record, WANDER, level);
	snprintf(note.name, sizeof(note.name), "level %d", level);
	if (level == 0)
		wait(record, level);
	else
		descend(record, level - 1, wait);
	LEAVE(record);
}

static const wait waits[] = { await_byte, await_signal, sleep_on, spin, walk, sleep_on };

static void *serve(void *argument)
{
	long number = (long)argument;
	volatile struct record *record = &records[number];

	record->tid = own = syscall(SYS_gettid);
	ENTER(record, SERVE, number);
	descend(record, 3 + 2 * number, waits[number]);
	return NULL;
}

/* The functions that a thread is in before it waits. */
static uint64_t depth(long number)
{
	return 1 + (3 + 2 * number + 1) + 1;
}

int main(void)
{
	const long threads = sizeof(waits) / sizeof(waits[0]);

	if (pipe(silence))
		return 1;
	for (long number = 1; number < threads; number++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, serve, (void *)number))
			return 1;
		while (records[number].depth < depth(number))
			usleep(1000);
	}
	printf("records %lu count %ld\n", (unsigned long)records, threads);
	fflush(stdout);
	serve((void *)0);
	return 0;
}
