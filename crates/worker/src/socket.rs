//! Messages with file descriptors over a pair of sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most bytes of a message: what the kernel's usual send buffer (`net.core.wmem_default`) takes in one piece.
pub(crate) const MESSAGE_LIMIT: usize = 192 * 1024;

/// The most file descriptors of a message.
const FDS: usize = 3;

/// Two connected ends that keep messages apart.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message.
pub(crate) fn send(
    socket: impl AsFd,
    message: &[u8],
    fds: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many file descriptors"));
    }
    let flags = match wait {
        true => SendFlags::NOSIGNAL,
        false => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    };
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(message)], &mut control, flags)
    })?;
    Ok(())
}

/// One message: its length in `buffer`, and what file descriptors came with it. A length of 0 is the end.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    wait: bool,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a message was cut off"));
    }
    Ok((received.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn descriptors_come_with_their_message() {
        let (ours, theirs) = pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&ours, b"take this", &[writer.as_fd()], true).unwrap();
        send(&ours, b"and no more", &[], true).unwrap();
        drop(writer);
        let mut buffer = [0; 64];
        let (length, mut fds) = receive(&theirs, &mut buffer, true).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"take this"[..], 1));
        std::fs::File::from(fds.remove(0)).write_all(b"hello").unwrap();
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
        let (length, fds) = receive(&theirs, &mut buffer, true).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"and no more"[..], 0));
        let nothing = receive(&theirs, &mut buffer, false).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        assert_eq!(receive(&theirs, &mut buffer, true).unwrap().0, 0);
    }

    #[test]
    fn a_message_is_whole_or_an_error() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &vec![7; MESSAGE_LIMIT], &[], false).unwrap();
        assert!(receive(&theirs, &mut [0; 10], true).is_err());
    }
}
