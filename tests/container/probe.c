/* Asks the kernel for what the profile must refuse, and prints what came of it.
 *
 *     probe sweep NUMBER...   every system call but these, one line each: its number and errno
 *     probe ask NUMBER:ARG0:ARG1...   these calls, with these arguments, one line each
 *     probe int80 | x32       a call by another way into the kernel; ends by SIGSYS
 *
 * No C library: its start would make calls of its own. An argument is a decimal number.
 */

#define LAST_CALL 480
/* The kernel's own, which no filter is asked about: they end whoever else makes them (SIGILL). */
#define FIRST_OF_UPROBES 335
#define LAST_OF_UPROBES 336
#define STANDARD_OUTPUT 1
#if defined(__x86_64__)
enum { NR_write = 1, NR_exit_group = 231 };
static long ask(long n, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call begin\n");
#else
#error "only for x86_64"
#endif

static void say(const char *text)
{
    long length = 0;
    while (text[length])
        length++;
    ask(NR_write, STANDARD_OUTPUT, (long)text, length, 0, 0, 0);
}

static void say_number(long number)
{
    char text[24], *at = text + sizeof text;
    unsigned long rest = number < 0 ? -(unsigned long)number : (unsigned long)number;
    *--at = 0;
    do
        *--at = '0' + rest % 10;
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    say(at);
}

/* Reads a number and moves on behind it and its colon. */
static unsigned long number_at(const char **text)
{
    unsigned long number = 0;
    for (; **text >= '0' && **text <= '9'; ++*text)
        number = number * 10 + (unsigned long)(**text - '0');
    if (**text == ':')
        ++*text;
    return number;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void report(long call, long result)
{
    say_number(call);
    say(" ");
    say_number(result < 0 ? -result : 0);
    say("\n");
}

static void sweep(long count, char **numbers)
{
    for (long call = 0; call <= LAST_CALL; call++) {
        int is_allowed = call >= FIRST_OF_UPROBES && call <= LAST_OF_UPROBES;
        for (long i = 0; i < count; i++) {
            const char *text = numbers[i];
            is_allowed |= (long)number_at(&text) == call;
        }
        if (!is_allowed)
            report(call, ask(call, -1, -1, -1, -1, -1, -1));
    }
}

static void ask_one(const char *text)
{
    unsigned long of[7] = {0};
    for (long i = 0; i < 7 && *text; i++)
        of[i] = number_at(&text);
    report((long)of[0], ask((long)of[0], of[1], of[2], of[3], of[4], of[5], of[6]));
}

__attribute__((used)) void begin(long *stack)
{
    long count = stack[0];
    char **arguments = (char **)(stack + 1);
    const char *what = count > 1 ? arguments[1] : "";
    if (same(what, "sweep"))
        sweep(count - 2, arguments + 2);
    else if (same(what, "ask"))
        for (long i = 2; i < count; i++)
            ask_one(arguments[i]);
    else if (same(what, "int80")) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
        report(20, result);
    } else if (same(what, "x32"))
        report(39, ask(0x40000000L + 39, 0, 0, 0, 0, 0, 0));
    else
        ask(NR_exit_group, 64, 0, 0, 0, 0, 0);
    ask(NR_exit_group, 0, 0, 0, 0, 0, 0);
}
