// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "sockets.h"

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/net.h>
#include <net/af_unix.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>

static void ff_socket_note_inet(struct sock *sk, struct ff_image_socket *image)
{
	struct sockaddr_in *local = (void *)image->local, *peer = (void *)image->peer;
	struct inet_sock *inet = inet_sk(sk);

	local->sin_family = AF_INET;
	local->sin_port = inet->inet_sport;
	local->sin_addr.s_addr = inet->inet_rcv_saddr ?: inet->inet_saddr;
	image->local_bytes = sizeof(*local);
	if (!inet->inet_dport)
		return;
	peer->sin_family = AF_INET;
	peer->sin_port = inet->inet_dport;
	peer->sin_addr.s_addr = inet->inet_daddr;
	image->peer_bytes = sizeof(*peer);
}

#if IS_ENABLED(CONFIG_IPV6)
static void ff_socket_note_inet6(struct sock *sk, struct ff_image_socket *image)
{
	struct sockaddr_in6 *local = (void *)image->local, *peer = (void *)image->peer;
	struct inet_sock *inet = inet_sk(sk);

	local->sin6_family = AF_INET6;
	local->sin6_port = inet->inet_sport;
	local->sin6_addr = ipv6_addr_any(&sk->sk_v6_rcv_saddr) ? inet6_sk(sk)->saddr : sk->sk_v6_rcv_saddr;
	local->sin6_scope_id = ipv6_iface_scope_id(&local->sin6_addr, sk->sk_bound_dev_if);
	image->local_bytes = sizeof(*local);
	if (!inet->inet_dport)
		return;
	peer->sin6_family = AF_INET6;
	peer->sin6_port = inet->inet_dport;
	peer->sin6_addr = sk->sk_v6_daddr;
	peer->sin6_scope_id = ipv6_iface_scope_id(&peer->sin6_addr, sk->sk_bound_dev_if);
	image->peer_bytes = sizeof(*peer);
}
#endif

/* What SIOCINQ and SIOCOUTQ tell. */
static void ff_socket_note_tcp(struct sock *sk, struct ff_image_socket *image)
{
	const struct tcp_sock *tcp = tcp_sk(sk);

	if (image->state == TCP_LISTEN)
		return;
	image->receive_queue = max(tcp_inq(sk), 0);
	if (image->state != TCP_SYN_SENT && image->state != TCP_SYN_RECV)
		image->send_queue = max_t(int, READ_ONCE(tcp->write_seq) - READ_ONCE(tcp->snd_una), 0);
}

static void ff_socket_note_unix(struct sock *sk, struct ff_socket *socket)
{
	struct ff_image_socket *image = &socket->image;

	socket->local_address = smp_load_acquire(&unix_sk(sk)->addr);
	image->descriptors = atomic_read(&unix_sk(sk)->scm_stat.nr_fds);
	if (sk->sk_state == TCP_LISTEN) {
		image->receive_queue = READ_ONCE(sk->sk_receive_queue.qlen);
		return;
	}
	image->receive_queue = max(unix_inq_len(sk), 0l);
	/* What the peer has not read, with what the kernel keeps for each piece. */
	image->send_queue = max(unix_outq_len(sk), 0l);
	if (image->send_queue)
		image->flags |= FF_SOCKET_ROUGH;
	socket->peer = unix_peer_get(sk);
	if (!socket->peer)
		return;
	socket->peer_address = smp_load_acquire(&unix_sk(socket->peer)->addr);
	image->peer_inode = sock_i_ino(socket->peer);
}

static void ff_socket_note_rough(struct sock *sk, struct ff_image_socket *image)
{
	image->receive_queue = max(sk_rmem_alloc_get(sk), 0);
	image->send_queue = max(sk_wmem_alloc_get(sk), 0);
	if (image->receive_queue || image->send_queue)
		image->flags |= FF_SOCKET_ROUGH;
}

static bool ff_socket_is_tcp(const struct sock *sk)
{
	return sk->sk_type == SOCK_STREAM && sk->sk_protocol == IPPROTO_TCP;
}

struct ff_socket *ff_socket_note(struct file *file, struct ff_arena *arena)
{
	struct socket *of_file = sock_from_file(file);
	struct sock *sk = of_file ? READ_ONCE(of_file->sk) : NULL;
	struct ff_image_socket *image;
	struct ff_socket *socket;

	socket = sk ? ff_arena_take_zeroed(arena, sizeof(*socket)) : NULL;
	if (!socket)
		return NULL;
	image = &socket->image;
	image->family = sk->sk_family;
	image->kind = sk->sk_type;
	image->protocol = sk->sk_protocol;
	image->state = READ_ONCE(sk->sk_state);
	switch (sk->sk_family) {
	case AF_UNIX:
		ff_socket_note_unix(sk, socket);
		break;
	case AF_INET:
		ff_socket_note_inet(sk, image);
		break;
#if IS_ENABLED(CONFIG_IPV6)
	case AF_INET6:
		ff_socket_note_inet6(sk, image);
		break;
#endif
	default:
		image->flags |= FF_SOCKET_LATE;
		break;
	}
	if (image->family == AF_INET || image->family == AF_INET6) {
		if (ff_socket_is_tcp(sk))
			ff_socket_note_tcp(sk, image);
		else
			ff_socket_note_rough(sk, image);
	} else if (image->family != AF_UNIX) {
		ff_socket_note_rough(sk, image);
	}
	if ((image->kind == SOCK_STREAM || image->kind == SOCK_SEQPACKET) && image->state == TCP_LISTEN) {
		image->flags |= FF_SOCKET_LISTENS;
		if (image->family != AF_UNIX)
			image->receive_queue = READ_ONCE(sk->sk_ack_backlog);
		image->send_queue = READ_ONCE(sk->sk_max_ack_backlog);
	}
	return socket;
}

static void ff_socket_set_unix(const struct unix_address *address, u8 *to, u32 *bytes)
{
	if (!address)
		return;
	*bytes = min_t(u32, address->len, sizeof(((struct ff_image_socket *)0)->local));
	memcpy(to, address->name, *bytes);
}

/* Of families whose addresses only they can tell: they may have changed since. */
static void ff_socket_ask(struct file *file, struct ff_image_socket *image)
{
	struct socket *socket = sock_from_file(file);
	struct sockaddr_storage address = {};
	int length;

	if (!socket)
		return;
	length = kernel_getsockname(socket, (struct sockaddr *)&address);
	if (length > 0) {
		image->local_bytes = min_t(u32, length, sizeof(image->local));
		memcpy(image->local, &address, image->local_bytes);
	}
	memset(&address, 0, sizeof(address));
	length = kernel_getpeername(socket, (struct sockaddr *)&address);
	if (length > 0) {
		image->peer_bytes = min_t(u32, length, sizeof(image->peer));
		memcpy(image->peer, &address, image->peer_bytes);
	}
}

int ff_socket_add(struct ff_bytes *bytes, struct file *file, struct ff_socket *socket, struct ff_blob *blob)
{
	struct ff_image_socket *image = &socket->image;

	BUILD_BUG_ON(sizeof(image->local) != sizeof(struct sockaddr_storage));
	if (image->flags & FF_SOCKET_LATE)
		ff_socket_ask(file, image);
	ff_socket_set_unix(socket->local_address, image->local, &image->local_bytes);
	ff_socket_set_unix(socket->peer_address, image->peer, &image->peer_bytes);
	return ff_bytes_add(bytes, image, sizeof(*image), blob);
}

void ff_socket_drop(struct ff_socket *socket)
{
	if (!socket || !socket->peer)
		return;
	sock_put(socket->peer);
	socket->peer = NULL;
}
