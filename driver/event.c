// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events of an open: a small ring that read() takes from and poll() watches.
 * Each region can be revoked once, changes of the topology are merged into
 * one record; what does not fit is reported as LOST.
 */
#include <linux/poll.h>
#include <linux/uaccess.h>
#include "penstock_drv.h"

void penstock_event_init(struct penstock_open *open)
{
	spin_lock_init(&open->event_lock);
	init_waitqueue_head(&open->event_wait);
}

void penstock_event_post(struct penstock_open *open, u32 event, u32 region_id, u32 reason)
{
	unsigned long flags;

	spin_lock_irqsave(&open->event_lock, flags);
	if (event == PENSTOCK_EVENT_TOPOLOGY) {
		open->event_topology = true;
	} else if (open->event_head - open->event_tail == PENSTOCK_EVENTS) {
		open->event_lost = true;
	} else {
		open->events[open->event_head % PENSTOCK_EVENTS] = (struct penstock_event) {
			.event = event,
			.region_id = region_id,
			.reason = reason,
		};
		open->event_head++;
	}
	spin_unlock_irqrestore(&open->event_lock, flags);
	wake_up_interruptible_poll(&open->event_wait, EPOLLIN | EPOLLRDNORM);
}

static bool event_pending(const struct penstock_open *open)
{
	return READ_ONCE(open->event_head) != READ_ONCE(open->event_tail) || READ_ONCE(open->event_lost) ||
	       READ_ONCE(open->event_topology);
}

/* Revocations in order, then what was lost, then the topology. */
static bool event_take(struct penstock_open *open, struct penstock_event *event)
{
	bool taken = true;

	memset(event, 0, sizeof(*event));
	spin_lock_irq(&open->event_lock);
	if (open->event_head != open->event_tail) {
		*event = open->events[open->event_tail % PENSTOCK_EVENTS];
		open->event_tail++;
	} else if (open->event_lost) {
		open->event_lost = false;
		event->event = PENSTOCK_EVENT_LOST;
	} else if (open->event_topology) {
		open->event_topology = false;
		event->event = PENSTOCK_EVENT_TOPOLOGY;
	} else {
		taken = false;
	}
	spin_unlock_irq(&open->event_lock);
	return taken;
}

/* What was taken did not arrive. */
static void event_lose(struct penstock_open *open)
{
	spin_lock_irq(&open->event_lock);
	open->event_lost = true;
	spin_unlock_irq(&open->event_lock);
}

ssize_t penstock_event_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	struct penstock_open *open = file->private_data;
	struct penstock_event event;
	size_t done = 0;

	if (len < sizeof(event))
		return -EINVAL;
	while (len - done >= sizeof(event)) {
		if (event_take(open, &event)) {
			if (copy_to_user(buf + done, &event, sizeof(event))) {
				event_lose(open);
				return done ? done : -EFAULT;
			}
			done += sizeof(event);
			continue;
		}
		if (done)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(open->event_wait, event_pending(open)))
			return -ERESTARTSYS;
	}
	return done;
}

__poll_t penstock_event_poll(struct file *file, struct poll_table_struct *wait)
{
	struct penstock_open *open = file->private_data;

	poll_wait(file, &open->event_wait, wait);
	return event_pending(open) ? EPOLLIN | EPOLLRDNORM : 0;
}
