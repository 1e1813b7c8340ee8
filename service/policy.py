"""The tuned constants: what each bounds, its unit, how it was found, and what breaks when it is wrong.

Limits that users may set are in `settings`; numbers that a protocol or the kernel prescribes stand where they are used.
Unless another way is named, a value was chosen by interleaved pairs of `python -m benchmarks.serving --job mnist` on
two cores of an AMD EPYC virtual machine.
"""

# Batches: which worker gets the next one, and when (`batching/batch_policy.py`).

BATCHES_PER_WORKER = 2
"""Batches an API process keeps at a worker: one runs, one waits. With one, a worker is idle while its reply is read;
with more, an image waits behind a batch that it could have joined."""

LEAD_NS = 3_000_000
"""Work beyond BATCHES_PER_WORKER that a worker is sent ahead, at what images cost under load: one turn of a busy event
loop. Less, and workers of a small network run dry between turns, and a second one is woken that they do not need (2 ms:
-4 % at 128 connections, p99 +15 %); more, and batches stay small (4 ms: as 3)."""

WAKE_NS = 1_000_000
"""Work at the busy workers from which an idle one is woken too: some ten times what waking costs. Less, and small
networks run in small batches on every core; more, and cores stay idle under a moderate load."""

QUICK_IMAGE_NS = 60_000
"""Images that run in less are left to one worker until it has LEAD_NS of work: an API process needs as long itself for
an image, so one worker keeps up with it (+3 % at 128 connections, p99 -10 %). Too large, and workers are missing where
the network is the bottleneck."""

LATE_NS = 100_000_000
"""Time since the oldest image at a worker was queued, from which that worker is no longer preferred for small work:
thirty times LEAD_NS. Less, and a pause of the scheduler counts; more, and requests wait behind a stopped worker for
longer."""

DEMAND_NS = 1_000_000_000
"""Age of a model's newest image up to which the model counts as in demand, if none waits (a judgement). With several in
demand batches are kept short. Less, and a model that is asked twice a second waits behind full batches of the others;
more, and the others run in short batches for longer than there is a reason."""

# Quick images beside slow ones (`batch_costs.py`, `batching/express.py`, `worker/worker.py`): found with
# `benchmarks.fairness`, a digit beside two overloaded networks of photographs, and the other way round.

EXPRESS_RATIO = 4
"""Times the cost of a model's image that another's must have for express threads to run the first (a judgement): such
a thread shares a core. Less, and a worker that becomes free would be done earlier; more, and images wait for slow
ones."""

EXPRESS_SHARE = 0.25
"""Share of the workers' time that express threads may take for one model: a little more than the fifth of its capacity
up to which a model is to keep its latency. Without a bound an overloaded digit was answered twelve times as often, and
ResNet-18 had a p99 of thirteen times its own; less, and models that ask for little wait for slow ones."""

EXPRESS_IMAGE_NS = 120_000
"""What an image of theirs costs beside its network, HTTP and decoding above all: two cores answer 12,500 digits a
second, whose network takes 0.04 ms. Less, and an overloaded digit is not found out; more, and one that is asked for
little is taken for overloaded."""

EXPRESS_BURST_NS = 50_000_000
EXPRESS_BURST_IMAGES = 64
"""Time or images, whichever is more, that may be taken at once: 300 digits. What takes more is an overload. Less, and a
hiccup of the machine is one, or chance; more, and overloads disturb the others for longer (0.1 to 0.5 s)."""

EXPRESS_PAUSE_NS = 10_000_000_000
EXPRESS_PAUSE_MOST_NS = 60_000_000_000
"""Time until a model that has taken more is tried again (a judgement), twice as long after each trial in a row that
fails. Less, and an overload disturbs the others more often; more, and a model waits for slow ones after a hiccup."""

USUAL_NICE = 10
"""Added to the niceness of a worker's first thread where there is an express thread: it gets a tenth of a core that
both want. Less, and quick images wait for the scheduler (2: p50 four times as long as alone, and p99 13 ms instead of
8); more, and slow models get less beside other programs for little (19: p99 7 ms; in the class for idle times 6)."""

QUICK_SLICE_NS, SLOW_SLICE_NS = 100_000, 100_000_000
"""Slices of a core, the least and the most that Linux grants: of the threads that quick images pass, and of a worker's
first one where there is an express thread. The same for all, and the p99 of a digit was 9.1, 9.2 and 10.4 ms instead of
6.6, 6.6 and 7.4 (medians of three or four starts; others of the second kind were at 6.8 to 9.8); short ones alone, 7.8.
Where all images are quick, they change nothing (an Intel Xeon of two cores, Linux 6.18)."""

# What an image costs (`batching/wait_estimate.py`, `batching/decode_estimate.py`) and who is admitted
# (`batching/admission.py`).

NEWEST_WEIGHT = 0.1
"""Weight of the newest measurement, a batch or a decoded image, in a learned cost: it follows a change within some
twenty of them. More, and single ones sway the estimate; less, and an overload is noticed late."""

OUTLIER_FACTOR = 4.0
"""Times the learned cost that one measurement counts for at the most: one that was stopped for seconds must not have
everything refused. Less, and a machine that has become slow is noticed late."""

WAIT_SHARE = 0.75
"""Share of a request's remaining time that its estimated wait may take, its batch to fill and to run, or its copy for a
shadow to wait. More, and admitted requests miss their deadlines under overload; less, and requests are refused that
would have been answered."""

UNKNOWN_NS_PER_BYTE = 50.0
"""Assumed cost of decoding until an image of the type, and of the size or larger, has been decoded: a JPEG of 100 kB
takes some 5 ms. Less, and the first burst after a start is admitted whole; more, and parts of it are refused for
nothing."""

# The batch size (`worker/warmup.py`, `batch_costs.py`, `batching/wait_estimate.py`).

DISPATCH_NS = 150_000
"""What a batch costs besides its images: two wake-ups and the bookkeeping, CPU time on two cores. Less, and small
networks run in batches too small to pay; more, and slow networks wait for larger ones without gain."""

PAYING_IMAGES = 16
"""Images in a batch that is sent within a turn of the event loop, before more come: DISPATCH_NS are 9 us an image then.
It is half of those that are admitted, up to twice as many: a twelfth more digits with 128 connections, and the slowest
wait an eighth less. Less, and there are more batches: with 8 a twentieth to a tenth is lost. More, and workers wait: 32
lose a fifth of the digits with 32 connections. It does not follow from what an image costs in each size at warm-up,
where 8 and 16 differ by 9 us: starts on a machine whose speed changed meanwhile chose 4 to 32."""

COST_TOLERANCE = 0.05
"""Relative difference between two measured costs that counts as one: repeated runs of one size differ by as much."""

QUICK_BATCH_NS = 250_000_000
"""Duration up to which a batch may grow if it makes no image dearer by COST_TOLERANCE: how long images may wait for
each other. Less, and networks of 20 ms an image lose throughput under load; more, and latency grows for nothing."""

SLOW_BATCH_SAVING = 0.25
"""Relative saving an image that a batch slower than QUICK_BATCH_NS has to bring: beside another program a warm-up chose
16 images of ResNet-18 for gains that were noise. Less, and such starts make slow batches; more, and GPUs lose."""

LARGEST_BATCH = {"cpu": 64, "cuda": 256}
"""Images; the largest size that the automatic mode tries, by kind of device. On CPUs nothing above pays; GPUs have been
published with up to 256 (not measured here)."""

UNDISTURBED_NS = 20_000_000
"""Running time that each size is measured for: quick batches are often interrupted on a busy machine, and the quickest
run counts. Less, and one interruption decides the batch size; more, and the start takes longer."""

SLOW_REPEATS = 3
"""Runs of a size before it counts as slower than smaller ones: a single one may have been interrupted."""

TRIAL_INTERVAL = 32
"""Batches of which one may be larger or smaller than the best that is known. Less, and trials cost throughput; more,
and a start on a busy machine is mended late (after some 300 batches a doubling)."""

TRIALS = 5
"""Intervals with a trial of a size that decide about it, by their median (a judgement). Fewer, and interruptions
decide; more, and a start on a busy machine is mended later."""

# Hangs and restarts (`worker/warmup.py`, `pools/`, `supervisor/`, `prediction/api_process.py`,
# `prediction/restart_wait.py`, `batching/batch_policy.py`).

HANG_FLOOR_NS = 2_000_000_000
"""Least time a batch may take before its worker counts as hung, beside what it waits for a core (a judgement): less,
and a slow disk or swapping kills sound workers; more, and requests wait longer for their retry."""

HANG_FACTOR = 10
"""Times the warm-up latency of its size that a batch may take, if that is more than HANG_FLOOR_NS (a judgement). Too
small, and a machine whose caches and clock others share kills its own workers."""

EXCUSED_S = 60.0
"""Time for which a process may wait for a core, in one batch or between two heartbeats, before it counts as any other
(a judgement). Less, and sound processes are killed where others take nearly all of the cores; more, and one that spins
there for ever is found so much later."""

UNREAD_LIMIT_S = 2.0
"""Time that an idle worker may leave a message unread before it counts as hung: HANG_FLOOR_NS, in seconds."""

PROBE_INTERVAL_S = 1.0
"""Time between two probes of an idle worker, which find one that was stopped while it had nothing to do."""

WATCH_INTERVAL_S = 0.25
"""Time between two looks of the supervisor at what may hang: an eighth of the shortest hang. Less costs idle CPU."""

SIGNAL_ECHO_S = 0.5
"""Time within which the same signal is one that came twice (a judgement): `timeout` sends it to the server and to its
group, and a wrapper hands on the Ctrl-C that its terminal sends the server, too. Less, and a busy wrapper ends what it
should drain; more, and who presses Ctrl-C again in haste is not heard."""

BEAT_INTERVAL_S = 0.5
"""Time between two signs of life of an API process, which publishes its queue's depth with them: a twentieth of
SILENCE_LIMIT_S. Less costs idle CPU (with 0.25 s 0.06 % of a core more for each process); more, and gauges lag."""

SILENCE_LIMIT_S = 10.0
"""Time without a sign of life after which an API process counts as hung (a judgement). A turn of its event loop may be
long: 16 MiB of JSON or of a form take most of a second, and several on a busy machine. Less, and a sound process dies
with all that it holds; more, and clients of a stopped one wait for longer."""

BACK_OFF_S = (0.0, 0.2, 1.0, 5.0, 15.0)
"""Time before the first, second, ... restart in a row (a judgement): one crash costs no time, a crash at every start
little CPU."""

LONG_LIFE_S = 30.0
"""Life after which a death counts as the first in a row: twice the longest back-off. A shadow gets
no copies for as long after a worker died with some: it is replaced before another can die."""

FIRST_STARTS = 3
"""Deaths in a row of a process upon which the server gives up, if none of its kind has ever been up, or a worker's that
loads new models, upon which they are refused: more only delay the error."""

RESTART_WAIT_FACTOR = 3.0
"""Times the last start of a worker that accepted requests wait for another when no worker is up, unless their deadline
ends it before (a judgement), RESTART_WAIT_LEAST_S at the least. Less, and a crash on a busy machine loses requests;
more, and clients wait for what may never come."""

RESTART_WAIT_LEAST_S = 2.0
"""Least time that they wait (a judgement): a start of 0.13 s took three times as long on a busy machine, and after the
second death in a row comes a pause. Less, and such a moment loses requests; more, and clients wait for longer."""

OOM_KILL_KEPT_S = 10.0
"""Time for which a kill for memory may be the reason of a death that is seen later (a judgement): the kernel may kill
several at once, and takes a while to free a large one's memory. Less, and the second is told as an exit; more, and so
is a death by another's hand, after the kill of a process that is not ours."""

SUSPECT_NS = 1 << 50
"""Added to the load of a worker that runs an image which was in a worker that died, or loads a model: thirteen days,
far more than any load, so that no API process sends it anything until it has answered."""

# Changes while the server runs (`supervisor/`, `pools/`, `prediction/api_process.py`, `prediction/model_demand.py`,
# `prediction/model_switch.py`, `batching/batcher.py`).

CHANGES_WAITING = 16
"""Changes that wait for others (a judgement): each takes as long as a worker's start. More, and their clients wait for
minutes."""

READING_STARTS = 4
"""Times --start-timeout that reading the repository may take (a judgement): beside the reading, each way to run a new
model is tried, for as long as a start may take. Less, and slow disks are given up; more, and a dead one holds up the
next change for longer."""

REFUSED_PAUSE_S = 30.0
REFUSED_PAUSE_MOST_S = 900.0
"""Time after which --poll-repository asks again for what was refused (a judgement), twice as long after each refusal of
the same up to the second, five times in all: memory may have been short, or a disk. Less, and a version that no worker
can load keeps the machine busy with spare workers; more, and one that could be loaded by now is missing for longer."""

CREDENTIALS_S = 10.0
"""Time in which keys and certificates are read again at SIGHUP (a judgement): a few kB. Less, and a slow network mount
is given up; more, and the operator hears later that one does not answer."""

RELOAD_PAUSE_S = 5.0
"""Time until an API process that had no descriptor to read new certificates with tries again (a judgement). Less, and
it fills the log meanwhile; more, and it shows the old one for longer."""

LOAD_TRIES = 2
"""Workers that may die while they load a model under --memory-budget, before its requests are refused: one may be
chance. More, and each is missing for the time of a start."""

LOAD_RETRY_S = 30.0
"""Time after which a model that could not be loaded is tried again, if it is asked for (a judgement). Less, and a
broken model keeps the workers busy; more, and one that is mended is missing for longer."""

RELEASE_LIMIT_S = 1.0
"""Time in which API processes say that a model may be unloaded (a judgement); after it another one makes room, or what
needs none is loaded, and they are asked again. A busy one takes a turn of its event loop. Less, and it is asked in
vain; more, and all wait for one that stands still."""

HELD_LOOK_S = 0.02
"""Time until a model that had images in flight is asked for again, to make room for one that waits. Without it
supervisor and API processes asked and answered as fast as they could, as long as all were in use; more, and one that is
used with short breaks makes room later."""

UNLOADED_SHARE = 0.25
"""Share of an API process's places that images may take which wait for one model to be loaded (a judgement). More, and
they keep those of loaded models out; less, and a burst for a model that is loaded in a moment is refused."""

RELEASE_MARGIN_S = 5.0
"""Time beyond the latest deadline of a request after which retired workers are ended in any case."""

SETTLE_LOOK_S = 0.002
"""Time between two looks of a new API process at whether workers still run what its predecessor sent. Less costs CPU
beside that; more, and it is ready later."""

RELEASE_LOOK_S = 0.02
"""Time between two looks of an API process at whether retired workers still have something of it. Less costs CPU; more,
and their memory is free later."""

# Shadows (`supervisor/shadow_watch.py`, `batching/shadow.py`).

FAILED_LEAST = 5
FAILED_SHARE = 0.05
"""Images or requests that fail, and their share of all, from which a version is taken back (a judgement). Less, and a
few pictures that no version can take decide; more, and a version that fails goes on."""

DEATHS = 2
DEATHS_WITHIN_S = 3600.0
"""Workers that die with a shadow's images, or while a promoted version is served, and the time within which they do,
before it is taken back: one may be chance (judgements). More of them, and each costs the images of others a retry; more
time, and two that have nothing to do with each other take a good version back."""

JUDGED_AGAIN_S = 30.0
"""Time after which a version that was to be promoted or taken back is looked at again, if that was refused (a
judgement): memory may have been short. Less, and the log fills; more, and a version that fails is served for longer."""

FAR_AGREEMENT = 0.1
"""Below `--promote-agreement` by so much, a shadow is taken back rather than looked at further (a judgement)."""

JUDGED_IMAGES = 1000
"""Images or requests after which failures are counted anew, if no other number is set: a version that has run for
long may start to fail. More, and it is found later."""

COPIES_WAIT_NS = 100_000_000
"""Time that a copy may wait for others to run with: a batch of its own would take as much of the API process as two
images that are answered. Less, and throughput falls with a shadow (by 8 % at a tenth with none); more, and copies of
models that are asked for little hold their slots for longer."""

COPIES_PLACES = 1 / 16
"""Share of the places that waiting copies may hold, or one place (a judgement): requests find that much less when a
burst comes, with few places. More, and it is refused; less, and batches of copies are smaller where places are few."""

LEAST_COPIES = 0.0025
"""Share of the images, and of the places, that copies may have which do not wait until there is time for them. More,
and a full server answers less (2 % with 0.005, 3 % with 0.01, 4 to 7 % with all of a tenth); less, and --promote-after
takes longer there."""

BUSY_LOOP = 0.5
"""Share of its time that an event loop works, or waits for a core, above which copies beyond LEAST_COPIES are left out.
More, and a full server makes copies in time that answers need; less, and one that has time makes fewer than it was
told."""

BUSY_LOOK_S = 0.1
"""Time over which that share is measured, at the least: some ten turns of a busy loop. Less, and a single turn decides;
more, and the beginning of a rush is late by so much."""

# Connections: fairness between them, and what their heads and responses cost (`http/`, `parsing/head.py`,
# `batching/outbox.py`, `prediction/access_log.py`).

TURN_NS = 10_000_000
"""Time in one turn of the event loop for reading data; later data waits for the next turn, in its order. Much more, and
what comes in a turn waits for all of it (p99 at 512 connections +50 % with 50 ms, +10 % with 20); without a bound two
thousand busy clients starved every probe and every new connection. Much less, and nearly all data waits in a queue."""

NEWEST_PER_LATE = 2
"""Newest requests that are taken behind an old one that came too late. None, and a server whose event loop has more to
read than it can refuse in time answers nothing: digits at twice the peak over 2,048 connections with `--target-latency
0.1`. One, and half of what is read is refused; more, and refusals wait longer: for 0.4 s with one, 0.7 with two and 1.2
with four, where 0.5, 0.6 and 0.7 of the peak are answered in time."""

PIECE_BYTES = 4 << 10
"""Part of what comes outside of bodies that is parsed in one call: at most 160 questions that are pipelined, some 3 ms
and half a megabyte. Many more, and one client's take memory that nothing bounds; less, and heads with many cookies take
several calls."""

PARSED_BYTES = 32 << 10
"""Part of a body without a declared length that is parsed in one call: 3 ms where its chunks have one byte each. More,
and a turn lasts as much longer than TURN_NS: 21 ms with the 256 KiB that come at once. Less, and bodies cost more."""

GATHERED_RESPONSES = 64
"""Responses of a turn's batches that are made before the first of them is written: those of a full batch of small
images, 3 ms. More, and the first waits for as long as it takes to make all; a quarter, and 128 connections lose half of
what it brings."""

WAITING_BYTES = 16 << 20
"""Data that waits for another turn, in all; beyond, turns grow longer. It bounds memory, not speed."""

GRACE_LOOK_S = 0.01
"""Time between the end of a client's time and its timeout: the event loop looks at its timers before it reads, and
needs one more turn to read what came in time."""

ACCEPTS_PER_TURN = 16
"""Connections that a turn may accept, and a quarter of them where other API processes have as many. Fewer, and a crowd
of new clients waits for many turns (p99 660 ms with one a turn)."""

ACCEPTED_SHARE = 0.25
"""Share of the open connections that a turn may accept, if that is more than ACCEPTS_PER_TURN: turns are long when
there are many."""

YIELD_S = 0.001
"""Time in which other API processes, with fewer connections, can take a new one. Less, and they are not awake yet;
more, and it waits longer where they are busy."""

DESCRIPTOR_PAUSE_S = 0.5
"""Time until the next try to accept, when there are no descriptors or no memory for a connection."""

SPARED_IDLE_S = 1.0
"""Time without a request after which a connection may be closed for one that waits for a descriptor (a judgement).
Less, and a client that asks again and again is cut between two requests; more, and probes wait behind idle clients."""

LINGER_S = 0.5
"""Time for a client to take its last answer and close: closing on unread bytes would reset the connection and lose the
answer. More, and clients that never close hold descriptors."""

PLAIN_HEAD_BYTES = 4096
"""Longest request head that is read without the parser of HTTP: a usual client's has 100 to 400 bytes, behind a proxy
600, with cookies more. Longer, and a hostile head is gone through twice; shorter, and usual ones are parsed."""

KEPT_VALUES = 256
"""Request lines and queries that are remembered with what they mean, or with their fields of the access log (a
judgement): a process has few clients of different kinds at a time. Fewer, and they are read again; more cost memory."""

AWAITED_BODY_BYTES = 256 << 10
"""Largest body for whose end a refusal waits, as in Go's net/http; before the end of a larger one it is told at once,
and the connection closes. More, and who is refused sends more for nothing; less, and more connections are made anew
under overload."""

# Metrics (`metrics/`, `prediction/saturation.py`, `prediction/metrics_endpoint.py`).

LATER_CELLS = 1 << 18
"""Counts of a row for which there is room when models come while the server runs: a new model with 1,000 classes takes
2,500 cells, a new version of a known one 6. Less, and models are refused sooner; more costs address space only."""

SATURATION_S = 15.0
"""Time over which the use of each resource is averaged: the usual time between two scrapes, thirty looks (a judgement).
Less, and a scrape is a coin toss; more, and an autoscaler hears of a peak when it is over."""

DRIFT_WINDOW = 1000
"""Recent answers of a model that are compared with its reference. Less, and chance moves the index; more, and a change
is found late where little is asked."""

DRIFT_STEPS = 10
"""Steps in which that window slides: it is longer than asked for by a tenth at most. More cost memory."""

DRIFT_GROUPS = 20
"""Groups of answers that are compared at most, as is usual for the index: chance alone makes it about
(groups - 1) / DRIFT_WINDOW. More, and that comes near what counts as drift; less, and changes within a group are
missed."""

LEAST_GROUP_IMAGES = 50
"""Images of the reference in each group: chance in the reference alone makes the index 1 / LEAST_GROUP_IMAGES at most.
Less, and a model that was measured on few images seems to drift."""

SCRAPE_INTERVAL_S = 0.1
"""Time between two renderings of the metrics; what asks meanwhile shares the next. A rendering of ten models of a
thousand classes takes 10 ms of one core. Less, and a crowd of scrapes keeps a core busy; more, and a scrape waits for
longer."""

# Logs (`prediction/problem_log.py`, `prediction/access_log.py`, `process/log_stream.py`).

FOLDING_S = 1.0
"""Time in which equal refusals and errors become one line of the log. Less, and an overload fills the disk; more, and
it is told late."""

FOLDED_IDS = 50
"""Ids of requests that such a line names: some 2 kB. Fewer, and a client's id is not found; more, and lines are cut."""

ACCESS_LOG_INTERVAL_S = 0.01
"""Time in which requests end whose lines of the access log are written together, beside the requests' way.
Less, and each line finds code and memory cold (at 2 ms requests cost 1 to 2 % more CPU time); more, and lines come
later, and more are lost with a process that is killed."""

LOG_PATIENCE_S = 0.5
LOG_PAUSE_S = 10.0
"""Time that a line waits for room, and after which another does if one has waited in vain (a judgement): between the
two lines without room are lost at once. More patience, or a shorter pause, and a log that is not read holds up
requests for longer; less, and a reader that is only slow misses lines."""

# The rate limit (`auth/rate_limit.py`).

LOCK_PATIENCE_S = 0.1
"""Time that a request waits for another API process to be done with the buckets of the rate limit (a judgement), which
takes microseconds. Less, and one that only waits for a core is passed by, and a token taken twice; more, and one that
is stopped there holds up the others, which so seem to be stopped, too, until SILENCE_LIMIT_S is over."""

# Decoding (`prediction/request.py`, `batching/decoding.py`).

TINY_BYTES = 4096
"""Size up to which a PNG of TINY_PIXELS is decoded on the event loop, as that costs less than to hand it to a thread.
More, and one image keeps all connections waiting."""

TINY_PIXELS = 64 * 64
"""Pixels up to which a PNG is decoded on the event loop: with TINY_BYTES, against small files of huge pictures."""

TRIMMED_BYTES = 16 << 20
"""Memory that decoding an image took, above which the allocator is asked to give it back; below, glibc returns or
reuses it. Less, and usual photographs pay 1 ms for it; more, and an API process keeps what its largest pictures
took."""

# Processes and their memory (`commands/`, `pools/`, `supervisor/`).

LEAST_BYTES, LEAST_WORKER_BYTES = 64 << 20, 32 << 20
"""Memory without which the server certainly does not work, and what each worker adds to it beside its networks: two
thirds to three quarters of what `python -m benchmarks.memory` finds. Less, and a start in too little memory ends in
workers that die again and again; more, and one that would work is refused."""

LEAST_DESCRIPTORS, WORKER_DESCRIPTORS, API_DESCRIPTORS = 32, 14, 8
"""Open files of an API process before its first connection: these, and for each worker and API process of the server.
Fewer, and processes die at their start again and again, some without a word; more, and a server that would work is
refused."""

WORKERS_PER_GPU = 2
"""Worker processes on each GPU: one collects, copies and answers while the other's batch is computed (a judgement, not
measured here). With one the GPU waits meanwhile; more take memory for their weights."""

COLLECTED_OBJECTS = 20_000
"""Objects that an API process makes and keeps until Python looks for unused circles among them, which requests do not
leave behind: about what a thousand requests in flight are made of. Python's own 700 are those of thirty (CPU a request
+2 % at 128 connections, +3 % at 512); more, and circles of rarer origin keep a few MB for longer."""

SECOND_API_PROCESS_CORES = 4
"""Cores from which a second API process is started. With a small network one keeps a core busy and one worker another:
on two cores a second one took 12 to 16 % more CPU a request, for -2 to +6 % requests. Four is a judgement."""

# Bodies (`parsing/`, `prediction/request.py`, `prediction/inference_response.py`, `http/body_pace.py`).

SMALL_BODY_BYTES = 64 << 10
"""Size up to which a form or JSON is taken apart on the event loop, in 0.1 ms: a thread costs as much. More, and one
body keeps all connections waiting."""

BODY_PIECE_BYTES = 256 << 10
"""Part of a larger body that is taken apart in one call, in about 1 ms, which the event loop waits for at the most
beside the interpreter's own 5 ms. Far larger, and probes wait for a body; far smaller, and bodies cost more."""

DECOMPRESSED_RATIO = 100
"""Times its size that a compressed body may become, if that is more than DECOMPRESSED_FLOOR_BYTES (a judgement): base64
and photographs shrink by a quarter at most. Less, and drawings are refused; more, and a small body holds as many of the
bytes in flight as the largest."""

DECOMPRESSED_FLOOR_BYTES = 1 << 20
"""What any compressed body may become: a drawing of 500 x 500 pixels as BMP, which compresses a thousandfold."""

COMPRESSED_FROM_BYTES = 1 << 10
COMPRESSED_UP_TO_BYTES = 64 << 10
"""Size of a response that is compressed for clients that take that: smaller ones gain nothing, and larger ones would
keep the event loop for more than about 2 ms (level 1 of zlib, on floats, which hardly shrink)."""

FORM_FIELDS = 64
"""Parts that a form may have beside its images (a judgement). Many more, and forms of empty parts keep a thread
busy."""

BODY_BYTES_PER_S = 4096
"""Average rate below which a body comes too slowly, once --body-timeout is over: below a modem's. More, and honest
clients are cut off; less, and clients that send a byte now and then hold a connection until their deadline."""

# The end (`supervisor/supervisor.py`, `prediction/shutdown.py`, `config/settings.py`): parts of --grace, judgements.

KILL_MARGIN_S = 0.5
"""What is kept at the end for killing processes that do not end by themselves, and before it for those that do. Less,
and a busy machine takes longer to end than --grace."""

REFUSAL_MARGIN_S = 0.5
"""What is kept before that for refusing requests that were not answered in time. Less, and some of them get no answer
at all."""

ENDING_S = 2 * KILL_MARGIN_S + REFUSAL_MARGIN_S
"""The part of --grace in which no request is answered any more."""
