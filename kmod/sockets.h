/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Sockets: addresses, states, and how much is in their queues. */
#ifndef FF_SOCKETS_H
#define FF_SOCKETS_H

#include <linux/fs.h>

#include "arena.h"
#include "bytes.h"
#include "freezeframe.h"

struct sock;
struct unix_address;

struct ff_socket {
	struct sock *peer; /* the other end of a Unix socket; reference, or NULL */
	/* Of Unix sockets: once there they stay, as long as their sockets do. */
	const struct unix_address *local_address, *peer_address;
	struct ff_image_socket image;
};

/* In the stop. NULL: no room. */
struct ff_socket *ff_socket_note(struct file *file, struct ff_arena *arena);
/* After it. */
int ff_socket_add(struct ff_bytes *bytes, struct file *file, struct ff_socket *socket, struct ff_blob *blob);
void ff_socket_drop(struct ff_socket *socket);

#endif
