#include <cli/progress.h>

#include <stdio.h>
#include <unistd.h>

#include <base/clock.h>

#define WAIT_MS   500 /* short work shows no bar */
#define REDRAW_MS 100
#define WIDTH     30
#define MEBIBYTE  (1024.0 * 1024.0)

void clv_progress_start(clv_progress *progress, const char *what, uint64_t total)
{
    uint64_t now = clv_monotonic_ms();
    *progress = (clv_progress){what, total, now, now + WAIT_MS - REDRAW_MS, false};
}

static void draw_bar(uint64_t done, uint64_t total)
{
    unsigned full = done < total ? (unsigned)(done * WIDTH / total) : WIDTH;
    fputc('[', stderr);
    for (unsigned i = 0; i < WIDTH; i++)
        fputc(i < full ? '#' : '.', stderr);
    fprintf(stderr, "] %3u%% ", done < total ? (unsigned)(done * 100 / total) : 100);
}

/* Whether a bar is due; its line is begun then. */
static bool begin_line(clv_progress *progress, uint64_t now)
{
    if (now < progress->shown_ms + REDRAW_MS || isatty(STDERR_FILENO) == 0)
        return false;
    fprintf(stderr, "\r%s ", progress->what);
    progress->shown_ms = now;
    progress->shown = true;
    return true;
}

void clv_progress_show(clv_progress *progress, uint64_t done)
{
    uint64_t now = clv_monotonic_ms();
    if (!begin_line(progress, now))
        return;
    double seconds = (double)(now - progress->started_ms) / 1000;
    if (progress->total > 0)
        draw_bar(done, progress->total);
    fprintf(stderr, "%.1f MiB, %.0f MiB/s\033[K", (double)done / MEBIBYTE,
            (double)done / MEBIBYTE / seconds);
    fflush(stderr);
}

void clv_progress_count(clv_progress *progress, uint64_t done, uint64_t total)
{
    if (!begin_line(progress, clv_monotonic_ms()))
        return;
    draw_bar(done, total);
    fprintf(stderr, "%llu of %llu\033[K", (unsigned long long)done, (unsigned long long)total);
    fflush(stderr);
}

void clv_progress_end(clv_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}
