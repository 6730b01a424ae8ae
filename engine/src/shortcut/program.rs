//! The program that a device's driver runs on each frame: those for us go to the socket of their
//! queue, all others on to the kernel's stack. It looks at nothing but where a frame is for; the
//! worker looks at the rest.

use std::net::IpAddr;

/// What becomes of frames the program does not take, and of those whose queue has no socket.
const PASS: i32 = 2;
const REDIRECT_MAP: i32 = 51;

// Registers. The first five are lost in a call.
const R0: u8 = 0;
const R1: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;
const R4: u8 = 4;
const FIELD: u8 = 5;
const CONTEXT: u8 = 6;

// Where the context says where the frame is, and which queue it came by.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_END: i16 = 4;
const CONTEXT_QUEUE: i16 = 16;

// Operations.
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const AND_NUMBER: u8 = 0x57;
const LOAD_8: u8 = 0x71;
const LOAD_16: u8 = 0x69;
const LOAD_32: u8 = 0x61;
const LOAD_MAP: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
const JUMP_IF_GREATER: u8 = 0x2d;
const JUMP_IF_EQUAL_32: u8 = 0x16;
const JUMP_UNLESS_EQUAL_32: u8 = 0x56;

/// The map's number stands for the map itself.
const MAP_BY_DESCRIPTOR: u8 = 1;

const ETHERTYPE: i16 = 12;
const IP: i16 = 14;
const UDP: i32 = 17;

/// Where a jump leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Pass,
    Take,
    V6,
}

/// A program in the making: jumps know their labels before these have a place.
struct Assembler {
    instructions: Vec<u64>,
    jumps: Vec<(usize, Label)>,
    places: Vec<(Label, usize)>,
}

/// A program that takes datagrams for these ports at these addresses, at most one of each family.
pub(super) fn assemble(table: i32, addresses: &[IpAddr], ports: &[u16]) -> Vec<u64> {
    let mut program = Assembler {
        instructions: Vec::new(),
        jumps: Vec::new(),
        places: Vec::new(),
    };
    program.add(MOVE, CONTEXT, R1, 0, 0);
    program.add(LOAD_32, DATA, CONTEXT, CONTEXT_DATA, 0);
    program.add(LOAD_32, END, CONTEXT, CONTEXT_END, 0);
    program.pass_if_shorter_than(14 + 20 + 8);
    program.add(LOAD_16, FIELD, DATA, ETHERTYPE, 0);
    program.jump(JUMP_IF_EQUAL_32, FIELD, network16(0x86dd), Label::V6);
    program.pass_unless(network16(0x0800));
    program.v4(addresses, ports);
    program.place(Label::V6);
    program.v6(addresses, ports);
    program.place(Label::Take);
    program.add(LOAD_32, DATA, CONTEXT, CONTEXT_QUEUE, 0);
    program.add(LOAD_MAP, R1, MAP_BY_DESCRIPTOR, 0, table);
    program.add(0, 0, 0, 0, 0);
    program.add(MOVE_NUMBER, END, 0, 0, PASS);
    program.add(CALL, 0, 0, 0, REDIRECT_MAP);
    program.add(EXIT, 0, 0, 0, 0);
    program.place(Label::Pass);
    program.add(MOVE_NUMBER, R0, 0, 0, PASS);
    program.add(EXIT, 0, 0, 0, 0);
    program.finish()
}

impl Assembler {
    fn add(&mut self, operation: u8, to: u8, from: u8, offset: i16, number: i32) {
        let [offset_low, offset_high] = offset.to_le_bytes();
        let [a, b, c, d] = number.to_le_bytes();
        let registers = from << 4 | to;
        let bytes = [operation, registers, offset_low, offset_high, a, b, c, d];
        self.instructions.push(u64::from_le_bytes(bytes));
    }

    fn jump(&mut self, operation: u8, register: u8, number: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.add(operation, register, 0, 0, number);
    }

    fn place(&mut self, label: Label) {
        self.places.push((label, self.instructions.len()));
    }

    fn pass_if_shorter_than(&mut self, bytes: i32) {
        self.add(MOVE, R4, DATA, 0, 0);
        self.add(ADD_NUMBER, R4, 0, 0, bytes);
        self.jumps.push((self.instructions.len(), Label::Pass));
        self.add(JUMP_IF_GREATER, R4, END, 0, 0);
    }

    fn pass_unless(&mut self, number: i32) {
        self.jump(JUMP_UNLESS_EQUAL_32, FIELD, number, Label::Pass);
    }

    /// Passes frames whose header has something else at an offset.
    fn want(&mut self, load: u8, offset: i16, number: i32) {
        self.add(load, FIELD, DATA, IP + offset, 0);
        self.pass_unless(number);
    }

    /// Whole packets without options; the kernel's stack can put pieces together.
    fn v4(&mut self, addresses: &[IpAddr], ports: &[u16]) {
        let mut ours = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let Some(ours) = ours.next() else {
            return self.jump(JUMP, 0, 0, Label::Pass);
        };
        self.want(LOAD_8, 0, 0x45);
        self.want(LOAD_8, 9, UDP);
        self.add(LOAD_16, FIELD, DATA, IP + 6, 0);
        self.add(AND_NUMBER, FIELD, 0, 0, network16(0x3fff));
        self.pass_unless(0);
        self.want(LOAD_32, 16, i32::from_ne_bytes(ours));
        self.ports(20, ports);
    }

    fn v6(&mut self, addresses: &[IpAddr], ports: &[u16]) {
        let mut ours = addresses.iter().filter_map(|address| match address {
            IpAddr::V6(v6) => Some(v6.octets()),
            IpAddr::V4(_) => None,
        });
        let Some(ours) = ours.next() else {
            return self.jump(JUMP, 0, 0, Label::Pass);
        };
        self.pass_if_shorter_than(14 + 40 + 8);
        self.want(LOAD_8, 6, UDP);
        for (index, word) in ours.as_chunks().0.iter().enumerate() {
            self.want(LOAD_32, 24 + 4 * index as i16, i32::from_ne_bytes(*word));
        }
        self.ports(40, ports);
    }

    fn ports(&mut self, udp: i16, ports: &[u16]) {
        self.add(LOAD_16, FIELD, DATA, IP + udp + 2, 0);
        for port in ports {
            self.jump(JUMP_IF_EQUAL_32, FIELD, network16(*port), Label::Take);
        }
        self.jump(JUMP, 0, 0, Label::Pass);
    }

    fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let place = self.places.iter().find(|(placed, _)| *placed == label);
            let place = place.map_or(at, |(_, place)| *place);
            // Counted from the instruction after the jump.
            let offset = (place as i16 - at as i16 - 1) as u16;
            self.instructions[at] |= u64::from(offset) << 16;
        }
        self.instructions
    }
}

/// A number as it is read from a frame.
fn network16(number: u16) -> i32 {
    number.to_be().into()
}
