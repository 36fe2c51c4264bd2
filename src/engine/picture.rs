//! Images and sounds before a library decodes them: what they are, whether they are whole, and how much they decode to, read from
//! their headers. What does not pass never reaches the decoder, which is made for well-meant files.

/// Bytes that a file may have.
const LARGEST: usize = 20 << 20;
/// Pixels that an image may have.
const PIXELS: u64 = 64_000_000;
/// Times that the longer side may exceed the shorter: the bound of the models' own preprocessors.
const SLIMMEST: u64 = 200;
/// Passes of a JPEG image. Each is work over all of its pixels, however few bytes it has; usual files have ten or so.
const SCANS: usize = 100;
/// Hertz that a sound is sampled at.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
/// Samples of a channel that a sound may have: an hour and a half of CD.
const SAMPLES: u64 = 1 << 28;

/// What a file of a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Image,
    Sound,
}

/// Why a file is not looked at; the text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    #[error("invalid image: {0}")]
    Image(String),
    #[error("invalid audio: {0}")]
    Sound(String),
}

/// What `file` is.
///
/// # Errors
/// When it is of no kind that can be decoded, is cut short, or is too large.
pub fn check(file: &[u8]) -> Result<Kind, PictureError> {
    let image = |result: Result<(u64, u64), String>| {
        result.and_then(bounded).map(|()| Kind::Image).map_err(PictureError::Image)
    };
    let sound = |result: Result<(), String>| result.map(|()| Kind::Sound).map_err(PictureError::Sound);
    if file.len() > LARGEST {
        return image(Err(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let riff = |kind: &[u8]| file.starts_with(b"RIFF") && file.get(8..12) == Some(kind);
    match file {
        [] => image(Err("it is empty".into())),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => image(png(file)),
        [0xff, 0xd8, 0xff, ..] => image(jpeg(file)),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => image(gif(file)),
        [b'B', b'M', ..] => image(bmp(file)),
        [b'f', b'L', b'a', b'C', ..] => sound(flac(file)),
        [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] => sound(Ok(())),
        _ if riff(b"WAVE") => sound(wav(file)),
        _ if riff(b"WEBP") => image(Err("WebP is not supported; PNG, JPEG, GIF and BMP are".into())),
        _ => image(Err("it is of no known format; PNG, JPEG, GIF and BMP are".into())),
    }
}

fn bounded((width, height): (u64, u64)) -> Result<(), String> {
    let (short, long) = (width.min(height), width.max(height));
    if short == 0 {
        return Err("it has no pixels".into());
    }
    if width.saturating_mul(height) > PIXELS {
        return Err(format!("it has {width} x {height} pixels, {} million are allowed", PIXELS / 1_000_000));
    }
    if long > short.saturating_mul(SLIMMEST) {
        return Err(format!("one side is more than {SLIMMEST} times as long as the other"));
    }
    Ok(())
}

fn short() -> String {
    "it is cut short".into()
}

/// Reads from the front; what is not there is a file cut short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn big(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn big_short(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn little(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn little_short(&mut self) -> Result<u16, String> {
        Ok(u16::from_le_bytes(self.array()?))
    }
}

fn png(file: &[u8]) -> Result<(u64, u64), String> {
    let mut reader = Reader(&file[8..]);
    let mut size: Option<(u64, u64, u64)> = None;
    let mut packed = 0;
    loop {
        let length = reader.big()? as usize;
        let kind: [u8; 4] = reader.array()?;
        let mut data = Reader(reader.take(length)?);
        reader.take(4)?;
        match (&kind, size) {
            (b"IHDR", None) => {
                let (width, height) = (u64::from(data.big()?), u64::from(data.big()?));
                let (depth, colours) = (u64::from(data.byte()?), data.byte()?);
                let channels = [1, 0, 3, 1, 2, 0, 4].get(usize::from(colours)).copied().unwrap_or(0);
                bounded((width, height))?;
                size = Some((width, height, (width * channels * depth / 8 + 16) * height));
            }
            (_, None) => return Err("a PNG image begins with its header".into()),
            (b"IDAT", Some((.., whole))) => {
                packed += length as u64;
                // More than the pixels take unpacked: the rest could unpack to anything.
                if packed > whole + whole / 8 + 4096 {
                    return Err("it has more data than pixels".into());
                }
            }
            (b"IEND", Some((width, height, _))) => return Ok((width, height)),
            _ => {}
        }
    }
}

fn jpeg(file: &[u8]) -> Result<(u64, u64), String> {
    let mut reader = Reader(&file[2..]);
    let (mut size, mut scans) = (None, 0);
    loop {
        // Between segments, and after the data of a scan, comes the next marker: what is no marker is data.
        while reader.byte()? != 0xff {}
        let mut marker = reader.byte()?;
        while marker == 0xff {
            marker = reader.byte()?;
        }
        match marker {
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            0xd9 => return size.ok_or_else(|| "it has no pixels".into()),
            _ => {}
        }
        let length = usize::from(reader.big_short()?).checked_sub(2).ok_or("a part of it has no length")?;
        let mut segment = Reader(reader.take(length)?);
        match marker {
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                segment.byte()?;
                let (height, width) = (segment.big_short()?, segment.big_short()?);
                if size.replace((u64::from(width), u64::from(height))).is_some() {
                    return Err("it is several images".into());
                }
            }
            0xda => {
                scans += 1;
                if size.is_none() || scans > SCANS {
                    return Err(format!("it has data before its size, or more than {SCANS} passes"));
                }
            }
            _ => {}
        }
    }
}

/// The first picture is the one that is looked at.
fn gif(file: &[u8]) -> Result<(u64, u64), String> {
    let mut reader = Reader(&file[6..]);
    let (width, height) = (reader.little_short()?, reader.little_short()?);
    let flags = reader.byte()?;
    reader.take(2)?;
    let colours = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let blocks = |reader: &mut Reader<'_>| {
        loop {
            match reader.byte()? {
                0 => return Ok::<(), String>(()),
                length => reader.take(usize::from(length))?,
            };
        }
    };
    reader.take(colours(flags))?;
    loop {
        match reader.byte()? {
            0x21 => {
                reader.byte()?;
                blocks(&mut reader)?;
            }
            0x2c => {
                reader.take(8)?;
                let flags = reader.byte()?;
                reader.take(colours(flags) + 1)?;
                blocks(&mut reader)?;
                return Ok((width.into(), height.into()));
            }
            _ => return Err("it has no pixels".into()),
        }
    }
}

fn bmp(file: &[u8]) -> Result<(u64, u64), String> {
    let mut reader = Reader(&file[2..]);
    reader.take(8)?;
    let begin = u64::from(reader.little()?);
    let (width, height, bits, packing) = match reader.little()? {
        12 => {
            let (width, height) = (reader.little_short()?, reader.little_short()?);
            reader.take(2)?;
            (u64::from(width), u64::from(height), reader.little_short()?, 0)
        }
        _ => {
            let (width, height) = (reader.little()?.cast_signed(), reader.little()?.cast_signed());
            reader.take(2)?;
            let bits = reader.little_short()?;
            // A negative height says that the top row comes first.
            (u64::try_from(width).unwrap_or(0), u64::from(height.unsigned_abs()), bits, reader.little()?)
        }
    };
    bounded((width, height))?;
    let row = (width * u64::from(bits)).div_ceil(32) * 4;
    let plain = packing == 0 || packing == 3;
    match plain && begin + row * height > file.len() as u64 {
        true => Err(short()),
        false => Ok((width, height)),
    }
}

fn wav(file: &[u8]) -> Result<(), String> {
    let mut reader = Reader(&file[12..]);
    loop {
        let kind: [u8; 4] = reader.array()?;
        let length = reader.little()? as usize;
        if &kind == b"fmt " {
            let mut format = Reader(reader.take(length)?);
            format.take(4)?;
            return sampled(format.little()?, 0);
        }
        reader.take(length.next_multiple_of(2))?;
    }
}

fn flac(file: &[u8]) -> Result<(), String> {
    let mut reader = Reader(&file[4..]);
    reader.take(4 + 10)?;
    // 20 bits of rate, 3 of channels, 5 of depth, 36 of samples.
    let packed = u64::from_be_bytes(reader.array()?);
    sampled((packed >> 44) as u32, packed & 0xf_ffff_ffff)
}

fn sampled(rate: u32, samples: u64) -> Result<(), String> {
    if !RATES.contains(&rate) {
        return Err(format!("it is sampled at {rate} Hz"));
    }
    if samples > SAMPLES {
        return Err("it is too long".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &[0; 4]].concat()
    }

    fn png(width: u32, height: u32, data: usize) -> Vec<u8> {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = chunk(b"IHDR", &[&size[..], &[8, 2, 0, 0, 0]].concat());
        let end = chunk(b"IEND", &[]);
        [b"\x89PNG\r\n\x1a\n".to_vec(), header, chunk(b"IDAT", &vec![0; data]), end].concat()
    }

    fn jpeg(width: u16, height: u16, scans: usize) -> Vec<u8> {
        let [w, v] = width.to_be_bytes();
        let [h, i] = height.to_be_bytes();
        let scan = [0xff, 0xda, 0, 4, 0, 0, 1, 0xff, 0, 2, 0xff, 0xd0];
        [&[0xff, 0xd8, 0xff, 0xe0, 0, 3, 9, 0xff, 0xc0, 0, 7, 8, h, i, w, v][..], &scan.repeat(scans), &[0xff, 0xd9]]
            .concat()
    }

    fn gif(width: u16, height: u16) -> Vec<u8> {
        let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
        let picture = [&[0x2c, 0, 0, 0, 0][..], &size, &[0, 2, 2, 0x4c, 1, 0, 0x3b]].concat();
        [b"GIF89a".to_vec(), size, vec![0x80, 0, 0, 0, 0, 0, 9, 9, 9, 0x21, 0xf9, 1, 7, 0], picture].concat()
    }

    fn bmp(width: i32, height: i32) -> Vec<u8> {
        let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
        let header = [&[0; 8][..], &[54, 0, 0, 0, 40, 0, 0, 0], &size, &[1, 0, 24, 0], &[0; 24]].concat();
        let rows = (width.unsigned_abs() * 3).next_multiple_of(4).saturating_mul(height.unsigned_abs());
        [b"BM".to_vec(), header, vec![0; rows.min(1 << 16) as usize]].concat()
    }

    #[test]
    fn whole_images_pass_and_shortened_ones_do_not() {
        for whole in [png(3, 2, 20), jpeg(3, 2, 2), gif(3, 2), bmp(3, 2), bmp(3, -2)] {
            assert_eq!(check(&whole), Ok(Kind::Image));
            // A GIF's last byte only says that no more pictures come.
            let least = whole.len() - usize::from(whole.starts_with(b"GIF"));
            for length in 0..least {
                let error = check(&whole[..length]).expect_err("a shortened image").to_string();
                assert!(error.starts_with("invalid image: "), "{length}: {error}");
            }
        }
    }

    #[test]
    fn what_would_decode_to_too_much_is_refused() {
        let error = |file: &[u8]| check(file).expect_err("a bad image").to_string();
        for huge in [png(65535, 65535, 20), jpeg(65535, 65535, 1), gif(65535, 65535), bmp(65535, 65535)] {
            assert!(error(&huge).contains("65535 x 65535 pixels"), "{}", error(&huge));
        }
        for none in [png(0, 5, 20), jpeg(5, 0, 1), gif(0, 5), bmp(-1, 5)] {
            assert!(error(&none).ends_with("it has no pixels"));
        }
        assert!(error(&png(1, 201, 20)).contains("200 times"));
        assert!(error(&png(1, 1, 5000)).ends_with("more data than pixels"));
        assert!(error(&jpeg(9, 9, 101)).contains("more than 100 passes"));
        assert!(error(&vec![0; LARGEST + 1]).contains("20 MiB"));
    }

    #[test]
    fn other_files_are_named() {
        let webp = check(b"RIFF\x10\0\0\0WEBPVP8 ").unwrap_err().to_string();
        assert!(webp.contains("WebP is not supported"));
        for file in [&b""[..], b"hello", b"<svg/>", b"II*\0", b"RIFF"] {
            assert!(check(file).is_err());
        }
        let wav =
            |rate: u32| [b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0", &rate.to_le_bytes()[..], &[0; 8]].concat();
        assert_eq!(check(&wav(16_000)), Ok(Kind::Sound));
        assert_eq!(check(&wav(1)).unwrap_err().to_string(), "invalid audio: it is sampled at 1 Hz");
        let flac = |samples: u64| {
            [b"fLaC\0\0\0\x22".to_vec(), vec![0; 10], (16_000 << 44 | samples).to_be_bytes().to_vec()].concat()
        };
        assert_eq!(check(&flac(16_000)), Ok(Kind::Sound));
        assert!(check(&flac(1 << 33)).is_err());
        assert_eq!(check(b"ID3\x04\0"), Ok(Kind::Sound));
    }
}
